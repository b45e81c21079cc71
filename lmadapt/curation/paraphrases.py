"""Questions that ask in other words what an evaluation item asks, found by sentence embeddings.

They are added to the leaks that lmadapt.curation.decontamination finds.
"""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa

from lmadapt.core.errors import UserError
from lmadapt.curation.decisions import RowDecision
from lmadapt.curation.decontamination import Item, Leak
from lmadapt.curation.screening import parts_of

BATCH_TEXTS, MAX_TOKENS = 64, 256


def add_paraphrases(
    rows: Sequence[RowDecision],
    groups: Iterable[pa.Table],
    items: Sequence[Item],
    *,
    model: str,
    min_similarity: float,
) -> None:
    """Add to the leaks of each conversation those of its turns that are paraphrases of items.

    groups: the screened conversations that `rows` are about, in their order.
    """
    owners: list[RowDecision] = []
    texts: list[str] = []
    coming = iter(rows)
    for group in groups:
        for record in group.to_pylist():
            row, parts = next(coming), parts_of(record)
            owners += [row] * len(parts)
            texts += parts
    for leak in find_paraphrases(texts, items, model=model, min_similarity=min_similarity):
        owners[leak.text].leaks += (leak,)


def find_paraphrases(
    texts: Sequence[str], items: Sequence[Item], *, model: str, min_similarity: float
) -> Iterator[Leak]:
    """A Leak for each text similar to the prompt of an item: of the item it is most similar to.

    model: folder or hub id of an encoder that transformers loads; only safetensors are read.
    min_similarity: cosine of the means of the last hidden states (Reimers and Gurevych 2019,
    section 3). Raises UserError when the model cannot be loaded.
    """
    prompts = [item["prompt"] or "" for item in items]
    vectors = _embed([*texts, *prompts], model)
    asked, found = vectors[len(texts) :], vectors[: len(texts)]
    for start in range(0, len(texts) if prompts else 0, BATCH_TEXTS):
        similarities = found[start : start + BATCH_TEXTS] @ asked.T
        for number in np.flatnonzero(similarities.max(axis=1) >= min_similarity).tolist():
            nearest = int(similarities[number].argmax())
            cosine = f"cosine {similarities[number, nearest]:.3f} >= {min_similarity:g}"
            evidence = f"{cosine}: {prompts[nearest]}"
            yield Leak(start + number, items[nearest]["id"], "question", evidence)


def _embed(texts: Sequence[str], model: str) -> np.ndarray:
    """Unit vectors, shape (n, hidden), fp32; texts of similar length share a batch."""
    import torch
    from transformers import AutoModel, AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(
            model, local_files_only=Path(model).is_dir(), trust_remote_code=False
        )
        encoder = AutoModel.from_pretrained(
            model, use_safetensors=True, dtype=torch.float32, trust_remote_code=False
        ).eval()
    except (OSError, ValueError) as error:
        raise UserError(
            f"curate.paraphrase_model: {model!r} cannot be loaded: {str(error)[:300]}"
        ) from None
    vectors = np.zeros((len(texts), encoder.config.hidden_size), np.float32)
    order = sorted(range(len(texts)), key=lambda number: len(texts[number]))
    for start in range(0, len(order), BATCH_TEXTS):
        batch = order[start : start + BATCH_TEXTS]
        encoded = tokenizer(
            [texts[number] for number in batch],
            padding=True,
            truncation=True,
            max_length=MAX_TOKENS,
            return_tensors="pt",
        )
        with torch.no_grad():
            states = encoder(**encoded).last_hidden_state
        mask = encoded["attention_mask"][..., None]
        means = (states * mask).sum(1) / mask.sum(1).clamp(min=1)
        vectors[batch] = torch.nn.functional.normalize(means, dim=1).numpy()
    return vectors
