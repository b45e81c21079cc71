"""Questions that ask what an evaluation item asks in other words, found by sentence embeddings."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from lmadapt.core.errors import UserError
from lmadapt.curation.decontamination import Leak

BATCH_TEXTS, MAX_TOKENS = 64, 256


def find_paraphrases(
    texts: Sequence[str], items: Sequence[dict[str, Any]], *, model: str, min_similarity: float
) -> Iterator[Leak]:
    """A Leak for each text whose embedding has at least that cosine similarity to an item's prompt: the nearest one's.

    model: a folder or hub id of an encoder that transformers loads; what counts is the mean of its last hidden states
    (Reimers and Gurevych 2019, section 3). Raises UserError where it cannot be loaded. Only safetensors are read.
    """
    prompts = [item["prompt"] or "" for item in items]
    vectors = _embed([*texts, *prompts], model)
    asked, found = vectors[len(texts) :], vectors[: len(texts)]
    for start in range(0, len(texts) if prompts else 0, BATCH_TEXTS):
        similarities = found[start : start + BATCH_TEXTS] @ asked.T
        for row in np.flatnonzero(similarities.max(axis=1) >= min_similarity).tolist():
            nearest = int(similarities[row].argmax())
            evidence = (
                f"cosine {similarities[row, nearest]:.3f} >= {min_similarity:g}: {prompts[nearest]}"
            )
            yield Leak(start + row, items[nearest]["id"], "question", evidence)


def _embed(texts: Sequence[str], model: str) -> np.ndarray:
    """Unit vectors, shape (n, hidden), fp32; texts of like lengths share a batch."""
    import torch
    from transformers import AutoModel, AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(model, local_files_only=Path(model).is_dir())
        encoder = AutoModel.from_pretrained(model, use_safetensors=True, dtype=torch.float32).eval()
    except (OSError, ValueError) as error:
        raise UserError(
            f"curate.paraphrase_model: {model!r} cannot be loaded: {str(error)[:300]}"
        ) from None
    vectors = np.zeros((len(texts), encoder.config.hidden_size), np.float32)
    order = sorted(range(len(texts)), key=lambda number: len(texts[number]))
    for start in range(0, len(order), BATCH_TEXTS):
        batch = order[start : start + BATCH_TEXTS]
        options = {
            "padding": True,
            "truncation": True,
            "max_length": MAX_TOKENS,
            "return_tensors": "pt",
        }
        encoded = tokenizer([texts[number] for number in batch], **options)
        with torch.no_grad():
            states, mask = (
                encoder(**encoded).last_hidden_state,
                encoded["attention_mask"][..., None],
            )
        means = (states * mask).sum(1) / mask.sum(1).clamp(min=1)
        vectors[batch] = torch.nn.functional.normalize(means, dim=1).numpy()
    return vectors
