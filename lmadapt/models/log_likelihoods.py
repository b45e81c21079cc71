"""Log-likelihoods in nats of every continuation of every question, by one tree-shaped mask."""

import logging
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import torch
from accelerate.utils.memory import should_reduce_batch_size

from lmadapt.core.errors import UserError
from lmadapt.models.questions import Question
from lmadapt.models.token_trees import TokenTree, pack_trees

TREE_TOKENS = 256  # in longer trees, attention costs more than sharing saves
HEAD_POSITIONS = 512  # logits of so many positions are in memory at once ...
HEAD_VOCABULARY = 4096  # ... for so many tokens: that part of the output layer fits a CPU's cache
MAX_HEAD_DIFFERENCE_NATS = 0.2  # bf16 rounding gives less; a scaled head is off by whole nats
KNOWN_LAYERS = {"full_attention", "sliding_attention"}

Recall = Callable[[Any, Callable[[], Any]], Any]
"""Gives the stored answer to a question, or calls the function for an answer and stores it."""

log = logging.getLogger(__name__)


def score(
    model: Callable[[], Any],
    questions: Sequence[Question],
    *,
    batch_tokens: int,
    recall: Recall = lambda question, ask: ask(),
    on_batch: Callable[[int], None] = lambda done: None,
) -> list[list[float]]:
    """Log-likelihood in nats of every continuation after its context, in the given order.

    Trees of similar length share a batch of about `batch_tokens` tokens; a batch that does not
    fit into memory is halved. `model` is called only for a batch that `recall` does not know (see
    lmadapt.evaluation.answer_cache). `on_batch` gets the number of questions in each finished
    batch.

    Raises UserError when a result is not finite, a question is longer than the model's context,
    or the model has layers other than full and sliding attention.
    """
    trees = pack_trees(questions, min(TREE_TOKENS, batch_tokens))
    trees.sort(key=lambda tree: len(tree.tokens))
    results = [[0.0] * len(question.continuations) for question in questions]
    while trees:
        batch = [trees.pop()]
        while trees and (len(batch) + 1) * len(batch[0].tokens) <= batch_tokens:
            batch.append(trees.pop())
        key = [tree.cache_key() for tree in batch]
        values = iter(recall(key, partial(_score_trees, model, batch)))
        finished = set()
        for tree in batch:
            for question, continuation, _ in tree.scored:
                results[question][continuation] += next(values)
                finished.add(question)
        on_batch(len(finished))
    if not all(np.isfinite(values).all() for values in results):
        raise UserError(
            "the model gave log-likelihoods that are not finite: its weights or its adapter are "
            "broken"
        )
    return results


def require_known_head(model: Any, tokens: Sequence[int]) -> None:
    """Raise UserError for a model that changes its logits in a way this module does not know.

    An example is a model that scales them. On the short text `tokens`, the model's own
    log-probabilities of its likeliest and unlikeliest token at each position must be ours.
    """
    ids = torch.tensor([list(tokens)], device=model.device)
    with torch.inference_mode():
        own = model(input_ids=ids, use_cache=False).logits[0].float().log_softmax(-1)
        hidden = model.get_decoder()(input_ids=ids, use_cache=False).last_hidden_state[0]
        (most, first), (least, last) = own.max(-1), own.min(-1)
        positions = torch.arange(len(tokens)).repeat(2)
        ours = torch.tensor(_log_softmax(model, hidden, positions, torch.cat([first, last])))
    off = float((torch.cat([most, least]).cpu() - ours).abs().mean())
    if not off <= MAX_HEAD_DIFFERENCE_NATS:
        raise UserError(
            f"cannot score a {type(model.get_decoder()).__name__}: its log-probabilities are "
            f"{off:.2f} nats from those of its hidden states times its output layer; "
            f"at most {MAX_HEAD_DIFFERENCE_NATS} are allowed"
        )


def _score_trees(model: Callable[[], Any], trees: list[TokenTree]) -> list[float]:
    """As `_score_batch`, halving the batch when memory is short."""
    try:
        return _score_batch(model(), trees)
    except RuntimeError as error:
        if not should_reduce_batch_size(error):
            raise
        if len(trees) == 1:
            raise UserError(
                f"not enough memory to score a row of {len(trees[0].tokens)} tokens: {error}"
            ) from None
    half = len(trees) // 2
    log.warning(
        "not enough memory to score %d rows at once; retrying with %d. To avoid the retry, lower "
        "evaluate.batch_tokens",
        len(trees),
        half,
    )
    return _score_trees(model, trees[:half]) + _score_trees(model, trees[half:])


class _Batch(NamedTuple):
    """Trees as the model takes them, padded to the longest, and what is read from its output."""

    tokens: np.ndarray  # (trees, n)
    positions: np.ndarray  # (trees, n)
    sees: np.ndarray  # (trees, 1, n, n) bool: which node sees which
    predictors: list[tuple[int, int]]  # the (tree, node) pairs whose next token is scored
    asked: list[int]  # for each scored token, which of the predictors comes before it
    targets: list[int]  # the scored tokens


def _pad(trees: list[TokenTree]) -> _Batch:
    length = max(len(tree.tokens) for tree in trees)
    tokens, positions = np.zeros((2, len(trees), length), np.int64)
    # Padding sees itself, because a softmax over nothing would be NaN.
    sees = np.tile(np.eye(length, dtype=bool), (len(trees), 1, 1, 1))
    predictors: dict[tuple[int, int], int] = {}
    asked, targets = [], []
    for number, tree in enumerate(trees):
        size = len(tree.tokens)
        tokens[number, :size], positions[number, :size] = tree.tokens, tree.depths
        sees[number, 0, :size, :size] = tree.visible()
        for scored in tree.scored:
            predictor = (number, tree.parents[scored.node])
            asked.append(predictors.setdefault(predictor, len(predictors)))
            targets.append(tree.tokens[scored.node])
    return _Batch(tokens, positions, sees, list(predictors), asked, targets)


def _score_batch(model: Any, trees: list[TokenTree]) -> list[float]:
    """Log-likelihood of each scored token of each tree, in their order."""
    batch = _pad(trees)
    longest = int(batch.positions.max()) + 1
    most = getattr(_text_config(model), "max_position_embeddings", longest)
    if longest > most:
        raise UserError(
            f"a question of {longest} tokens is longer than the model's context of {most}"
        )
    positions = torch.from_numpy(batch.positions)
    with torch.inference_mode():
        hidden = model.get_decoder()(
            input_ids=torch.from_numpy(batch.tokens).to(model.device),
            position_ids=positions.to(model.device),
            attention_mask=_masks(model, torch.from_numpy(batch.sees), positions),
            use_cache=False,
        ).last_hidden_state
        tree_numbers, nodes = torch.tensor(batch.predictors, device=hidden.device).T
        asked, targets = torch.tensor(batch.asked), torch.tensor(batch.targets)
        return _log_softmax(model, hidden[tree_numbers, nodes], asked, targets)


def _masks(
    model: Any, sees: torch.Tensor, positions: torch.Tensor
) -> torch.Tensor | dict[str, torch.Tensor]:
    """The finished attention mask, (trees, 1, n, n) bool; one for each kind of layer.

    transformers uses 4-D masks as they are, so a sliding window must already be in them. The
    window counts positions, which differ from columns in a tree.
    """
    config = _text_config(model)
    kinds = set(getattr(config, "layer_types", None) or ())
    if unknown := kinds - KNOWN_LAYERS:
        raise UserError(
            f"cannot score a model with layers of kind {', '.join(sorted(unknown))}; "
            f"allowed: {', '.join(sorted(KNOWN_LAYERS))}"
        )
    window = getattr(config, "sliding_window", None)
    sees = sees.to(model.device)
    if window is None:
        return sees
    positions = positions.to(model.device)
    near = sees & (positions[:, None, :, None] - positions[:, None, None, :] < window)
    return {"full_attention": sees, "sliding_attention": near} if kinds else near


def _log_softmax(
    model: Any, hidden: torch.Tensor, asked: torch.Tensor, targets: torch.Tensor
) -> list[float]:
    """Log-probability of each of `targets` after position `asked` of `hidden`, in fp32.

    hidden: (positions, width). The output layer is applied in blocks of vocabulary and positions:
    all logits of a large vocabulary are never in memory together, and each block of weights is
    read once a batch.
    """
    head = model.get_output_embeddings()
    if not isinstance(head, torch.nn.Linear):
        raise UserError(
            f"cannot score a model whose output layer is a {type(head).__name__}; expected a "
            "plain Linear"
        )
    cap = getattr(_text_config(model), "final_logit_softcapping", None)
    asked, targets = asked.to(hidden.device), targets.to(hidden.device)
    picked = torch.empty(len(targets), device=hidden.device)
    normalisers = []
    for token in range(0, head.weight.shape[0], HEAD_VOCABULARY):
        weight = head.weight[token : token + HEAD_VOCABULARY]
        bias = head.bias[token : token + HEAD_VOCABULARY] if head.bias is not None else None
        in_vocabulary = targets // HEAD_VOCABULARY == token // HEAD_VOCABULARY
        sums = []
        for first in range(0, len(hidden), HEAD_POSITIONS):
            block = hidden[first : first + HEAD_POSITIONS]
            logits = torch.nn.functional.linear(block, weight, bias).float()
            if cap is not None:
                logits = torch.tanh(logits / cap) * cap
            here = (asked // HEAD_POSITIONS == first // HEAD_POSITIONS) & in_vocabulary
            picked[here] = logits[asked[here] - first, targets[here] - token]
            sums.append(logits.logsumexp(1))
        normalisers.append(torch.cat(sums))
    return [float(value) for value in (picked - torch.stack(normalisers).logsumexp(0)[asked]).cpu()]


def _text_config(model: Any) -> Any:
    return model.config.get_text_config()
