"""What both trainings are told, and what follows from it: the model with what is trained, the mixture, its rows."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field

from lmadapt.core.errors import UserError
from lmadapt.core.tables import HELDOUT, read_table
from lmadapt.training.adapters import Method, Targets, Variant, prepare
from lmadapt.training.anchors import AnchorParams
from lmadapt.training.heldout import Heldout, HeldoutParams
from lmadapt.training.packing import Row, pack
from lmadapt.training.replay import Document, Mixture, mix_replay

Schedule = Literal["cosine", "wsd", "constant"]
Optimizer = Literal["auto", "adamw_torch", "paged_adamw_8bit"]


class TrainingParams(AnchorParams, HeldoutParams):
    """What both trainings are told; tokens are those of the model's tokenizer."""

    seed: int = Field(ge=0)
    method: Method
    lora_rank: int = Field(ge=1)
    lora_alpha: int = Field(ge=1)
    lora_variant: Variant
    target_modules: Targets
    learning_rate: float = Field(gt=0)
    lr_schedule: Schedule
    warmup_fraction: float = Field(ge=0, lt=1)
    decay_fraction: float = Field(gt=0, le=1)
    weight_decay: float = Field(ge=0)
    optimizer: Optimizer
    embedding_learning_rate_factor: float = Field(gt=0, le=1)
    max_tokens: int = Field(ge=1)
    max_sequence_tokens: int = Field(ge=8)
    batch_tokens: int = Field(ge=8)
    micro_batch_rows: Annotated[int, Field(ge=1)] | Literal["auto"]
    activation_checkpointing: bool | Literal["auto"]
    replay_fraction: float = Field(ge=0, lt=1)
    replay_source: Literal["general", "self"]
    replay_weights: dict[str, Annotated[float, Field(ge=0)]]
    checkpoint_minutes: float = Field(ge=0)
    accelerate_config: str | None

    @property
    def rows_per_step(self) -> int:
        """How many rows of `max_sequence_tokens` an optimiser step of `batch_tokens` holds; UserError when none."""
        if self.batch_tokens < self.max_sequence_tokens:
            raise UserError(
                f"batch_tokens is {self.batch_tokens}, less than one row: it must be at least max_sequence_tokens, "
                f"{self.max_sequence_tokens}"
            )
        return self.batch_tokens // self.max_sequence_tokens

    def prepare(self, base: Path, *, dropout: float = 0.0) -> Any:
        """The model of `base` with what is to be trained."""
        return prepare(
            base,
            method=self.method,
            frozen_layers=self.frozen_layers,
            rank=self.lora_rank,
            alpha=self.lora_alpha,
            variant=self.lora_variant,
            targets=self.target_modules,
            dropout=dropout,
            seed=self.seed,
        )

    def heldout(self, tokenizer: Any, file: Path) -> Heldout | None:
        """What scores the table HELDOUT of `file` during training, if it is to be."""
        documents = read_table(file, HELDOUT).to_pylist() if self.heldout_every_steps else []
        return Heldout(self, documents, tokenizer, self.seed) if self.heldout_every_steps else None

    def mix(
        self, domain: Sequence[Document], replay: Sequence[Document]
    ) -> tuple[Mixture, list[Row]]:
        """What is trained on, and its rows in order."""
        mixture = mix_replay(
            domain,
            replay,
            fraction=self.replay_fraction,
            max_tokens=self.max_tokens,
            seed=self.seed,
            weights=self.replay_weights,
        )
        return mixture, pack(
            mixture.examples, max_tokens=self.max_sequence_tokens, rows_per_step=self.rows_per_step
        )
