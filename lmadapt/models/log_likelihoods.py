"""Log-likelihoods, in nats: every choice of every question under one tree-shaped mask, and bits per byte of text."""

import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
import torch
from accelerate.utils.memory import should_reduce_batch_size

from lmadapt.core.errors import UserError
from lmadapt.models.chat import Message, encode_choice, encode_prompt

ROW_TOKENS = 256  # questions share a row up to this length: beyond it, attention costs more than sharing saves
WINDOW_TOKENS = (
    1024  # of held-out text; every token but the first 1,023 sees at least half a window before it
)
HEAD_POSITIONS = 512  # logits in memory at once: this many positions
MAX_HEAD_DIFFERENCE_NATS = (
    0.2  # rounding of bf16 logits gives less; a scaled head is off by whole nats
)
HEAD_VOCABULARY = (
    4096  # ... of this many tokens, whose part of the output layer stays in a CPU's cache meanwhile
)

Recall = Callable[
    [Any, Callable[[], Any]], Any
]  # the kept answer to a question, else what asking gives

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Question:
    """A context and the continuations whose log-likelihood is asked for, as token ids; none of them empty."""

    context: list[int]
    continuations: list[list[int]]


@dataclass
class _Row:
    """Questions as one tree of tokens: what two of them share from the start stands there once."""

    tokens: list[int] = field(default_factory=list)
    parents: list[int] = field(default_factory=list)  # -1: a first token
    depths: list[int] = field(default_factory=list)
    scored: list[tuple[int, int, int]] = field(default_factory=list)  # question, continuation, node
    children: dict[tuple[int, int], int] = field(default_factory=dict)

    def extend(self, parent: int, tokens: Sequence[int]) -> list[int]:
        """The nodes of `tokens` below `parent`, made where they are missing."""
        path = []
        for token in tokens:
            node = self.children.setdefault((parent, token), len(self.tokens))
            if node == len(self.tokens):
                self.tokens.append(token)
                self.parents.append(parent)
                self.depths.append(self.depths[parent] + 1 if parent >= 0 else 0)
            path.append(node)
            parent = node
        return path

    def asked(self) -> list[list[int]]:
        """All that its log-likelihoods depend on."""
        return [self.tokens, self.parents, [node for *_, node in self.scored]]

    def visible(self) -> np.ndarray:
        """Which node (row) sees which (column): itself and its ancestors; (n, n) bool."""
        sees = np.eye(len(self.tokens), dtype=bool)
        for node, parent in enumerate(self.parents):
            if parent >= 0:
                sees[node] |= sees[parent]
        return sees


def encode_item(
    tokenizer: Any, prompt: str, choices: Sequence[str], shots: Sequence[Message] = ()
) -> Question:
    """A multiple-choice item as the user's message, after the conversation `shots`, and what the assistant may say.

    Raises UserError when a choice has no tokens.
    """
    messages = [*shots, {"role": "user", "content": prompt}]
    question = Question(
        encode_prompt(tokenizer, messages),
        [encode_choice(tokenizer, messages, choice) for choice in choices],
    )
    if not all(question.continuations):
        raise UserError(f"a choice is empty: {choices!r} of the question {prompt[:200]!r}")
    return question


def encode_bare(tokenizer: Any, prompt: str, choices: Sequence[str]) -> Question:
    """A multiple-choice item as plain text: the prompt, a line end, and each choice; no chat template."""
    start = [] if tokenizer.bos_token_id is None else [tokenizer.bos_token_id]
    context = tokenizer(prompt + "\n", add_special_tokens=False)["input_ids"]
    return Question(
        [*start, *context],
        [tokenizer(text, add_special_tokens=False)["input_ids"] for text in choices],
    )


def encode_document(tokenizer: Any, text: str) -> list[Question]:
    """A document as overlapping windows, each after the token that begins a text; every token is scored once."""
    start = tokenizer.bos_token_id if tokenizer.bos_token_id is not None else tokenizer.eos_token_id
    tokens = list(tokenizer(text, add_special_tokens=False)["input_ids"])
    size = WINDOW_TOKENS - 1
    windows = [Question([start], [tokens[:size]])] if tokens else []
    for begin in range(size, len(tokens), size // 2):
        end = min(begin + size // 2, len(tokens))
        windows.append(Question([start, *tokens[end - size : begin]], [tokens[begin:end]]))
    return windows


def texts_within(
    documents: Iterable[dict[str, Any]], tokenizer: Any, heldout_tokens: int, seed: int
) -> Iterator[tuple[dict[str, Any], list[Question]]]:
    """Rows of HELDOUT in an order drawn with `seed`, each that still fits into its group's share, and its windows."""
    ordered: Sequence[dict[str, Any]] = sorted(documents, key=lambda document: str(document["id"]))
    left: dict[str, int] = {}
    for index in np.random.default_rng(seed).permutation(len(ordered)):
        document = ordered[index]
        windows = encode_document(tokenizer, document["text"])
        tokens = sum(len(window.continuations[0]) for window in windows)
        if 0 < tokens <= left.setdefault(document["group"], heldout_tokens):
            left[document["group"]] -= tokens
            yield document, windows


def choose(likelihoods: Sequence[float], choices: Sequence[str]) -> int:
    """The choice most likely per UTF-8 byte: lm-evaluation-harness's acc_norm, with its length in bytes."""
    return int(
        np.argmax(
            [
                value / len(choice.encode())
                for value, choice in zip(likelihoods, choices, strict=True)
            ]
        )
    )


def score(
    model: Callable[[], Any],
    questions: Sequence[Question],
    *,
    batch_tokens: int,
    recall: Recall = lambda question, ask: ask(),
    on_batch: Callable[[int], None] = lambda done: None,
) -> list[list[float]]:
    """Log-likelihood, in nats, of every continuation after its context, in the given order.

    Questions are sorted, so that neighbours share the beginnings of their contexts; rows of similar length make
    batches of about `batch_tokens` tokens, halved where memory does not suffice. `model` is only called for a batch
    that `recall` (see `lmadapt.evaluation.answer_cache`) does not know. `on_batch` is told how many questions each finished.
    Raises UserError when a result is not finite, a question exceeds the model's context, or the model mixes in
    layers other than full and sliding attention.
    """
    rows = sorted(_rows(questions, min(ROW_TOKENS, batch_tokens)), key=lambda row: len(row.tokens))
    results = [[0.0] * len(question.continuations) for question in questions]
    while rows:
        batch = [rows.pop()]
        while rows and (len(batch) + 1) * len(batch[0].tokens) <= batch_tokens:
            batch.append(rows.pop())
        values = iter(recall([row.asked() for row in batch], partial(_score_rows, model, batch)))
        for row in batch:
            for question, continuation, _ in row.scored:
                results[question][continuation] += next(values)
        on_batch(len({question for row in batch for question, _, _ in row.scored}))
    if not np.isfinite([value for values in results for value in values]).all():
        raise UserError(
            "the model gave log-likelihoods that are not finite: its weights or its adapter are broken"
        )
    return results


def require_known_head(model: Any, tokens: Sequence[int]) -> None:
    """Raise UserError for a model that does more to its logits than is done here, such as scaling them.

    tokens: a short text; compared are the log-probabilities of the model's first and last choice at each position.
    """
    ids = torch.tensor([list(tokens)], device=model.device)
    with torch.inference_mode():
        own = model(input_ids=ids, use_cache=False).logits[0].float().log_softmax(-1)
        hidden = model.get_decoder()(input_ids=ids, use_cache=False).last_hidden_state[0]
        (most, first), (least, last) = own.max(-1), own.min(-1)
        asked = torch.arange(len(tokens)).repeat(2)
        ours = torch.tensor(_log_softmax(model, hidden, asked, torch.cat([first, last])))
    off = float((torch.cat([most, least]).cpu() - ours).abs().mean())
    if not off <= MAX_HEAD_DIFFERENCE_NATS:
        raise UserError(
            f"cannot score a {type(model.get_decoder()).__name__}: its log-probabilities are {off:.2f} nats from "
            "those of its hidden states times its output layer"
        )


def _rows(questions: Sequence[Question], limit: int) -> list[_Row]:
    rows = [_Row()]
    before: list[int] = []
    for index in sorted(range(len(questions)), key=lambda index: questions[index].context):
        context, continuations = questions[index].context, questions[index].continuations
        pairs = enumerate(zip(before, context, strict=False))
        shared = next(
            (place for place, (old, new) in pairs if old != new), min(len(before), len(context))
        )
        if (
            rows[-1].tokens
            and len(rows[-1].tokens) + len(context) - shared + sum(map(len, continuations)) > limit
        ):
            rows.append(_Row())
        row, before = rows[-1], context
        last = row.extend(-1, context)[-1]
        for number, continuation in enumerate(continuations):
            row.scored += [(index, number, node) for node in row.extend(last, continuation)]
    return [row for row in rows if row.tokens]


def _score_rows(model: Callable[[], Any], rows: list[_Row]) -> list[float]:
    try:
        return _score_batch(model(), rows)
    except RuntimeError as error:
        if not should_reduce_batch_size(error):
            raise
        if len(rows) == 1:
            raise UserError(
                f"not enough memory to score a row of {len(rows[0].tokens)} tokens: {error}"
            ) from None
    log.warning(
        "not enough memory to score %d rows at once, trying half; lower evaluate.batch_tokens",
        len(rows),
    )
    half = len(rows) // 2
    return _score_rows(model, rows[:half]) + _score_rows(model, rows[half:])


def _score_batch(model: Any, rows: list[_Row]) -> list[float]:
    length = max(len(row.tokens) for row in rows)
    tokens, positions = np.zeros((2, len(rows), length), np.int64)
    sees = np.tile(
        np.eye(length, dtype=bool), (len(rows), 1, 1, 1)
    )  # padding sees itself: no softmax over nothing
    predictors: dict[
        tuple[int, int], int
    ] = {}  # (row, node) whose next token is asked for -> its number
    asked = []
    targets = []
    for number, row in enumerate(rows):
        size = len(row.tokens)
        tokens[number, :size], positions[number, :size] = row.tokens, row.depths
        sees[number, 0, :size, :size] = row.visible()
        for _, _, node in row.scored:
            asked.append(predictors.setdefault((number, row.parents[node]), len(predictors)))
            targets.append(row.tokens[node])
    if (longest := int(positions.max()) + 1) > (
        most := getattr(_text_config(model), "max_position_embeddings", longest)
    ):
        raise UserError(
            f"a question of {longest} tokens is longer than the model's context of {most}"
        )
    with torch.inference_mode():
        hidden = model.get_decoder()(
            input_ids=torch.from_numpy(tokens).to(model.device),
            position_ids=torch.from_numpy(positions).to(model.device),
            attention_mask=_masks(model, torch.from_numpy(sees), torch.from_numpy(positions)),
            use_cache=False,
        ).last_hidden_state
        row_numbers, nodes = torch.tensor(list(predictors), device=hidden.device).T
        return _log_softmax(
            model, hidden[row_numbers, nodes], torch.tensor(asked), torch.tensor(targets)
        )


def _masks(
    model: Any, sees: torch.Tensor, positions: torch.Tensor
) -> torch.Tensor | dict[str, torch.Tensor]:
    """The ready-made mask, (rows, 1, n, n) bool; one a kind of layer where the model has several kinds.

    transformers passes 4-D masks on as they are, so a window must already be in them; it counts positions, which
    in a tree differ from columns.
    """
    config = _text_config(model)
    kinds = set(getattr(config, "layer_types", None) or ())
    if unknown := kinds - {"full_attention", "sliding_attention"}:
        raise UserError(
            f"cannot score a model with layers of kind {', '.join(sorted(unknown))}: only attention layers"
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
    """Log-probability of each of `targets` after position `asked` of `hidden` (positions, width), normalised in fp32.

    Vocabulary and positions are cut into blocks: the logits of a large vocabulary never exist all at once, and its
    weights are read once a batch.
    """
    head = model.get_output_embeddings()
    if not isinstance(head, torch.nn.Linear):
        raise UserError(
            f"cannot score a model whose output layer is a {type(head).__name__}; expected a plain Linear"
        )
    cap = getattr(_text_config(model), "final_logit_softcapping", None)
    asked, targets = asked.to(hidden.device), targets.to(hidden.device)
    picked = torch.empty(len(targets), device=hidden.device)
    normalisers = []
    for token in range(0, head.weight.shape[0], HEAD_VOCABULARY):
        weight = head.weight[token : token + HEAD_VOCABULARY]
        bias = head.bias[token : token + HEAD_VOCABULARY] if head.bias is not None else None
        sums = []
        for first in range(0, len(hidden), HEAD_POSITIONS):
            logits = torch.nn.functional.linear(
                hidden[first : first + HEAD_POSITIONS], weight, bias
            ).float()
            if cap is not None:
                logits = torch.tanh(logits / cap) * cap
            here = (asked // HEAD_POSITIONS == first // HEAD_POSITIONS) & (
                targets // HEAD_VOCABULARY == token // HEAD_VOCABULARY
            )
            picked[here] = logits[asked[here] - first, targets[here] - token]
            sums.append(logits.logsumexp(1))
        normalisers.append(torch.cat(sums))
    return [float(value) for value in (picked - torch.stack(normalisers).logsumexp(0)[asked]).cpu()]


def _text_config(model: Any) -> Any:
    return model.config.get_text_config()
