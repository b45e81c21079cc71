"""Merging a LoRA adapter into its bf16 base, with a check that the model stays the one trained."""

from typing import Any

import torch

from lmadapt.core.errors import UserError

SAMPLE_TOKENS = 128  # several copies of their logits are in memory at once
MAX_KL_NATS = 0.01  # per token; rounding to bf16 stays below it, a wrong merge is far above


def merge_adapter(model: Any, sample: torch.Tensor) -> tuple[Any, dict[str, float]]:
    """Merge the adapter of `model` into its bf16 base; return the merged model and its difference.

    sample: [L] token ids. On the first SAMPLE_TOKENS of them the predictions before and after are
    compared: `logits_mean_absolute` is the mean absolute difference of their logits, `kl_nats` the
    mean KL divergence of the merged model from the unmerged one in nats per token. Raises UserError
    where `kl_nats` exceeds MAX_KL_NATS.
    """
    sample = sample[:SAMPLE_TOKENS]
    before = _logits(model, sample)
    merged = model.merge_and_unload()
    after = _logits(merged, sample)
    divergence = torch.nn.functional.kl_div(
        after.log_softmax(-1), before.log_softmax(-1), log_target=True, reduction="sum"
    )
    difference = {
        "logits_mean_absolute": round((after - before).abs().mean().item(), 6),
        "kl_nats": round(divergence.item() / len(sample), 6),
    }
    if not difference["kl_nats"] <= MAX_KL_NATS:  # also where it is not a number
        raise UserError(
            f"merging the adapter changed the model: KL {difference['kl_nats']} nats per token, "
            f"allowed {MAX_KL_NATS}; a lower learning_rate or lora_alpha keeps the adapter within "
            "what bf16 can hold, and method: full needs no merge"
        )
    return merged, difference


@torch.no_grad()
def _logits(model: Any, sample: torch.Tensor) -> torch.Tensor:
    model.eval()
    output = model(input_ids=sample[None].to(model.device), use_cache=False)
    return torch.as_tensor(output.logits[0]).float()
