"""How far a model is from the reference: Kullback-Leibler divergence on text that it wrote."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch

from lmadapt.evaluation.exam import Exam
from lmadapt.evaluation.variants import CachedModel
from lmadapt.models.log_likelihoods import score
from lmadapt.models.questions import Question
from lmadapt.verdict.figures import Divergence
from lmadapt.verdict.ratio_interval import clustered_ratio
from lmadapt.verdict.statistics import Array

PROMPTS = 64  # at most
MAX_PROMPTS_PER_DOCUMENT = 4
PROMPT_TOKENS = 32
WRITTEN_TOKENS = 64  # after each prompt
BATCH_SIZE = 16  # prompts


@dataclass(frozen=True)
class ReferenceText:
    """What the reference wrote after passages of general held-out text."""

    questions: list[Question]  # the context is a prompt, the one continuation what it wrote
    documents: Array  # the id of the document that each prompt is from


def let_reference_write(reference: CachedModel, exam: Exam, *, seed: int) -> ReferenceText:
    """Let the reference continue general held-out text, of as many documents as PROMPTS allows.

    `seed` draws the tokens from its whole distribution: temperature 1, and no token is excluded.
    """
    prompts, documents = [], []
    texts = zip(exam.documents, exam.windows, strict=True)
    general = [
        (document["id"], windows) for document, windows in texts if document["group"] == "general"
    ]
    count = min(MAX_PROMPTS_PER_DOCUMENT, max(1, PROMPTS // max(1, len(general))))
    for name, windows in general:
        found = _prompts(windows[0], count)
        prompts += found
        documents += [name] * len(found)
    written: list[list[int]] = []
    for start in range(0, min(len(prompts), PROMPTS), BATCH_SIZE):
        batch = prompts[start : min(start + BATCH_SIZE, PROMPTS)]
        question = ["write", batch, WRITTEN_TOKENS, seed]
        written += reference.cache.recall(question, partial(_write, reference.load, batch, seed))
    pairs = zip(prompts, written, strict=False)
    questions = [Question(prompt, [text]) for prompt, text in pairs]
    return ReferenceText(questions, np.array(documents[: len(written)]))


def text_nats(model: CachedModel, text: ReferenceText, *, batch_tokens: int) -> Array:
    """Negative log-likelihood in nats that a model gives each of the reference's texts, (n,)."""
    recall = model.cache.recall
    found = score(model.load, text.questions, batch_tokens=batch_tokens, recall=recall)
    return -np.array([values[0] for values in found])


def divergence(
    text: ReferenceText, nats: Mapping[str, Array], *, significance: float
) -> dict[str, Divergence] | None:
    """KL(reference || model) in bits per token, by model of `nats` but the reference.

    The mean over the reference's own samples of log p_reference - log p_model is an unbiased
    estimate (Monte Carlo; estimator k1 of Schulman 2020, "Approximating KL divergence"). The
    interval allows for samples after one document. None with fewer than two documents.
    """
    if len(set(text.documents.tolist())) < 2:
        return None
    tokens = np.array([len(question.continuations[0]) for question in text.questions], float)

    def moved(model: Array) -> Divergence:
        bits = (model - nats["reference"]) / np.log(2)
        ratio = clustered_ratio(bits, tokens, text.documents)
        interval = ratio.interval(significance)
        return Divergence(value=ratio.value, interval=interval, tokens=int(tokens.sum()))

    return {name: moved(model) for name, model in nats.items() if name != "reference"}


def _prompts(window: Question, count: int) -> list[list[int]]:
    """Up to about `count` passages of a document's first window, evenly spaced."""
    tokens = window.continuations[0]
    distance = max(PROMPT_TOKENS, len(tokens) // count)
    places = range(0, len(tokens) - PROMPT_TOKENS + 1, distance)
    return [[*window.context, *tokens[place : place + PROMPT_TOKENS]] for place in places]


def _write(load: Callable[[], Any], prompts: list[list[int]], seed: int) -> list[list[int]]:
    """WRITTEN_TOKENS tokens after each prompt; all prompts are of one length."""
    model = load()
    length = len(prompts[0])
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
            pad_token_id=0,  # never used: all rows are of one length
        )
    return [list(map(int, row)) for row in sequences[:, length:].tolist()]
