"""How far a model has moved from the base: Kullback-Leibler divergence on text that the base itself wrote."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch

from lmadapt.evaluation.exam import Exam
from lmadapt.evaluation.variants import Examinee
from lmadapt.models.log_likelihoods import Question, score
from lmadapt.verdict.statistics import Array, bootstrap_ratio

PROMPTS = 64  # at most
PROMPTS_PER_DOCUMENT = 4
PROMPT_TOKENS = 32
WRITTEN_TOKENS = 64  # after each prompt
BATCH_SIZE = 16


@dataclass(frozen=True)
class BaseText:
    """What the base model wrote after the beginnings of general held-out text."""

    questions: list[Question]  # context: a prompt; the one continuation: what the base wrote
    documents: Array  # the id of the document each prompt is from


def let_base_write(base: Examinee, exam: Exam, *, seed: int) -> BaseText:
    """Draw tokens, with `seed`, from the base model's own distribution: temperature 1, nothing cut off."""
    prompts, documents = [], []
    for document, windows in zip(exam.documents, exam.windows, strict=True):
        tokens = windows[0].continuations[0] if document["group"] == "general" else []
        places = range(
            0,
            len(tokens) - PROMPT_TOKENS + 1,
            max(PROMPT_TOKENS, len(tokens) // PROMPTS_PER_DOCUMENT),
        )
        prompts += [
            [*windows[0].context, *tokens[place : place + PROMPT_TOKENS]] for place in places
        ]
        documents += [document["id"]] * len(places)
    written: list[list[int]] = []
    for start in range(0, min(len(prompts), PROMPTS), BATCH_SIZE):
        batch = prompts[start : min(start + BATCH_SIZE, PROMPTS)]
        question = ["write", batch, WRITTEN_TOKENS, seed]
        written += base.cache.recall(question, partial(_draw, base.model, batch, seed))
    pairs = zip(prompts, written, strict=False)
    return BaseText(
        [Question(prompt, [said]) for prompt, said in pairs], np.array(documents[: len(written)])
    )


def text_nats(examinee: Examinee, text: BaseText, *, batch_tokens: int) -> Array:
    """Negative log-likelihood that a model gives each of the base's texts, (n,) nats."""
    found = score(
        examinee.model, text.questions, batch_tokens=batch_tokens, recall=examinee.cache.recall
    )
    return -np.array([values[0] for values in found])


def divergence(
    text: BaseText, nats: Mapping[str, Array], *, significance: float, seed: int
) -> dict[str, Any] | None:
    """KL(base || model) of each model of `nats` but the base, in bits per token; None with under two documents.

    The mean over the base's own samples of log p_base - log p_model, an unbiased estimate (Monte Carlo; Schulman
    2020, "Approximating KL divergence", estimator k1), with an interval that resamples whole documents.
    """
    if len(set(text.documents.tolist())) < 2:
        return None
    tokens = np.array([len(question.continuations[0]) for question in text.questions], float)
    names = [name for name in nats if name != "base"]
    bits = np.stack([(nats[name] - nats["base"]) / np.log(2) for name in names])
    intervals = bootstrap_ratio(bits, tokens, text.documents, significance=significance, seed=seed)
    return {
        name: {
            "value": float(row.sum() / tokens.sum()),
            "interval": interval,
            "tokens": int(tokens.sum()),
        }
        for name, row, interval in zip(names, bits, intervals, strict=True)
    }


def _draw(load: Callable[[], Any], prompts: list[list[int]], seed: int) -> list[list[int]]:
    model = load()
    length = len(prompts[0])  # all are as long
    torch.manual_seed(seed)
    with torch.inference_mode():
        sequences = model.generate(
            input_ids=torch.tensor(prompts, device=model.device),
            attention_mask=torch.ones(len(prompts), length, dtype=torch.long, device=model.device),
            min_new_tokens=WRITTEN_TOKENS,
            max_new_tokens=WRITTEN_TOKENS,
            do_sample=True,
            temperature=1.0,
            top_k=0,
            top_p=1.0,
            pad_token_id=model.generation_config.eos_token_id or 0,
        )
    return [list(map(int, row)) for row in sequences[:, length:].tolist()]
