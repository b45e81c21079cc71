"""The settings that pretrain and sft share: values and their checks, nothing that loads a model."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from lmadapt.core.errors import UserError
from lmadapt.core.sections import Section

KlTokens = Literal["replay", "domain", "all"]
LoraVariant = Literal["lora", "rslora", "dora"]
Method = Literal["qlora", "lora", "full"]
Optimizer = Literal["auto", "adamw_torch", "paged_adamw_8bit"]
Schedule = Literal["cosine", "wsd", "constant"]
TargetModules = Literal["all-linear", "retain"]


class AnchorParams(Section):
    """How strongly each anchor holds the model near its start; 0 switches an anchor off."""

    kl_weight: float = Field(ge=0)
    kl_tokens: KlTokens
    l2_sp_weight: float = Field(ge=0)
    ewc_weight: float = Field(ge=0)
    si_weight: float = Field(ge=0)
    fisher_examples: int = Field(ge=1)
    frozen_layers: int = Field(ge=0)


class HeldoutParams(Section):
    """How often training scores held-out text, and when these scores stop it."""

    heldout_every_steps: int = Field(ge=0)  # 0: never
    heldout_tokens: int = Field(ge=1)
    keep: Literal["last", "best"]
    patience: int | None = Field(ge=1)  # evaluations
    retention_budget_bits_per_byte: float | None = Field(ge=0)

    @model_validator(mode="after")
    def _decisions_need_scores(self) -> "HeldoutParams":
        has_budget = self.retention_budget_bits_per_byte is not None
        decides = self.keep == "best" or self.patience or has_budget
        if decides and not self.heldout_every_steps:
            raise ValueError(
                "keep: best, patience and retention_budget_bits_per_byte need scores of held-out "
                "text: heldout_every_steps must be at least 1"
            )
        return self


class TrainingParams(AnchorParams, HeldoutParams):
    """The settings of both training stages; tokens are those of the model's tokenizer."""

    seed: int = Field(ge=0)
    method: Method
    lora_rank: int = Field(ge=1)
    lora_alpha: int = Field(ge=1)
    lora_variant: LoraVariant
    target_modules: TargetModules
    learning_rate: float = Field(gt=0)
    lr_schedule: Schedule
    warmup_fraction: float = Field(ge=0, lt=1)  # of the steps
    decay_fraction: float = Field(gt=0, le=1)  # of the steps
    weight_decay: float = Field(ge=0)
    optimizer: Optimizer
    embedding_learning_rate_factor: float = Field(gt=0, le=1)
    max_tokens: int = Field(ge=1)
    max_sequence_tokens: int = Field(ge=8)
    batch_tokens: int = Field(ge=8)
    micro_batch_rows: Annotated[int, Field(ge=1)] | Literal["auto"]
    activation_checkpointing: bool | Literal["auto"]
    replay_fraction: float = Field(ge=0, lt=1)  # of the tokens that carry loss
    replay_source: Literal["general", "self"]
    replay_weights: dict[str, Annotated[float, Field(ge=0)]]
    checkpoint_minutes: float = Field(ge=0)
    accelerate_config: str | None

    @property
    def rows_per_step(self) -> int:
        """Rows of `max_sequence_tokens` in an optimiser step of `batch_tokens`.

        Raises UserError where a step holds less than one row.
        """
        if self.batch_tokens < self.max_sequence_tokens:
            raise UserError(
                f"batch_tokens is {self.batch_tokens}, less than one row: it must be at least "
                f"max_sequence_tokens, {self.max_sequence_tokens}"
            )
        return self.batch_tokens // self.max_sequence_tokens
