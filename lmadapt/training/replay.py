"""The mixture that is trained on: domain and replayed general examples within a token budget."""

import logging
import math
from collections import Counter, deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain, count
from typing import Any

import numpy as np

from lmadapt.core.errors import UserError
from lmadapt.models.chat import Encoded

log = logging.getLogger(__name__)

Document = Sequence[Encoded]
"""The pieces of one document, or the one conversation of an instruction."""

TOLERANCE = 0.01  # a replay share further than this below the one asked for is a shortfall


@dataclass(frozen=True)
class Pool:
    """The documents of one kind of data, and the examples drawn from them.

    Each drawn example stands beside the index of its document.
    """

    documents: Sequence[Document]
    drawn: list[tuple[int, Encoded]] = field(default_factory=list)

    @property
    def used_loss_tokens(self) -> int:
        """Loss-bearing tokens of the drawn examples."""
        return sum(example.loss_tokens for _, example in self.drawn)

    def loss_tokens_by_source(self) -> dict[str, int]:
        """Loss-bearing tokens of the drawn examples, by source."""
        counted: Counter[str] = Counter()
        for _, example in self.drawn:
            counted[example.source] += example.loss_tokens
        return dict(counted)

    def counts(self) -> dict[str, int]:
        """Documents, tokens and loss-bearing tokens: used, and available without repetition."""
        available = list(chain.from_iterable(self.documents))
        return {
            "documents_used": len({document for document, _ in self.drawn}),
            "documents_available": len(self.documents),
            "tokens_used": sum(len(example.input_ids) for _, example in self.drawn),
            "tokens_available": sum(len(example.input_ids) for example in available),
            "loss_tokens_used": self.used_loss_tokens,
            "loss_tokens_available": sum(example.loss_tokens for example in available),
        }


@dataclass(frozen=True)
class Mixture:
    """Examples in order of training, and the pools they were drawn from."""

    examples: list[Encoded]
    domain: Pool
    replay: Pool
    fraction_asked: float

    @property
    def fraction_met(self) -> float:
        """Share of replay in the loss-bearing tokens of the mixture."""
        replayed = self.replay.used_loss_tokens
        return replayed / (self.domain.used_loss_tokens + replayed)

    def metrics(self) -> dict[str, Any]:
        """Counts for the metrics file; `epochs` are domain tokens used over those available."""
        domain = self.domain.counts()
        epochs = domain["tokens_used"] / domain["tokens_available"]
        return {
            "domain": {**domain, "epochs": round(epochs, 4)},
            "replay": {
                **self.replay.counts(),
                "loss_tokens_by_source": self.replay.loss_tokens_by_source(),
                "fraction_asked": self.fraction_asked,
                "fraction_met": round(self.fraction_met, 4),
            },
        }


def replay_loss_tokens(domain: Sequence[Document], *, fraction: float, max_tokens: int) -> int:
    """The most loss-bearing tokens of replay that a mixture can need.

    This assumes that the same share of tokens carries loss in replay as in `domain`.
    """
    examples = list(chain.from_iterable(domain))
    tokens = sum(len(example.input_ids) for example in examples)
    loss_tokens = sum(example.loss_tokens for example in examples)
    return math.ceil(fraction * max_tokens * loss_tokens / max(1, tokens))


def mix_replay(
    domain: Sequence[Document],
    replay: Sequence[Document],
    *,
    fraction: float,
    max_tokens: int,
    seed: int,
    weights: Mapping[str, float] | None = None,
) -> Mixture:
    """Draw examples of up to `max_tokens` tokens; `fraction` of their loss-bearing ones is replay.

    Both kinds are shuffled by document with the seed. Domain data repeats, shuffled again, until
    the budget is spent; where it exceeds the budget, a random subset is used. Replay never repeats:
    where it runs out, the share it can have is spread evenly over the mixture, a warning states the
    shortfall, and the metrics show it. `weights` share replay's loss-bearing tokens between the
    sources they name; where one runs out, the others take its share. Raises UserError where there
    is no domain data, no replay though `fraction` asks for it, or no source of a name in `weights`.
    """
    _check_sources(domain, replay, fraction, weights or {})
    replay = [_replayed(document) for document in replay]
    budget = {"max_tokens": max_tokens, "seed": seed}
    mixture, exhausted = _interleave(domain, replay, fraction, weights, **budget)
    if not mixture.examples:
        raise UserError(f"max_tokens is {max_tokens}, too few for the first example; raise it")
    if exhausted:
        mixture, _ = _interleave(domain, replay, mixture.fraction_met, weights, **budget)
        mixture = Mixture(mixture.examples, mixture.domain, mixture.replay, fraction)
    if mixture.fraction_met < fraction - TOLERANCE:
        log.warning(
            "replay_fraction %s is not met: %.4f of the loss-bearing tokens are replay; "
            "there is no more than %d tokens of it",
            fraction,
            mixture.fraction_met,
            mixture.replay.counts()["loss_tokens_available"],
        )
    return mixture


def _replayed(document: Document) -> Document:
    return [replace(example, replayed=True) for example in document]


def _check_sources(
    domain: Sequence[Document],
    replay: Sequence[Document],
    fraction: float,
    weights: Mapping[str, float],
) -> None:
    names = {example.source for example in chain.from_iterable(replay)}
    unknown = sorted(set(weights) - names)
    if unknown:
        raise UserError(
            f"replay_weights names {', '.join(unknown)}; the sources are {', '.join(sorted(names))}"
        )
    if not any(domain):
        raise UserError(
            "there is no domain data to train on: metrics/curate.json says what was dropped, and "
            "why"
        )
    if fraction > 0 and not any(replay):
        raise UserError(
            f"replay_fraction is {fraction}, but there is no general data to replay; add some to "
            "fetch.sources (general_text for pretrain, general_instructions for sft), or set "
            "replay_fraction to 0"
        )


def _interleave(
    domain: Sequence[Document],
    replay: Sequence[Document],
    fraction: float,
    weights: Mapping[str, float] | None,
    *,
    max_tokens: int,
    seed: int,
) -> tuple[Mixture, bool]:
    """The mixture, and whether replay ran out before the budget was spent."""
    mixture = Mixture([], Pool(domain), Pool(replay), fraction)
    shuffled = _shuffled(replay, [seed, 1, 0])
    waiting = deque(_by_weight(list(shuffled), weights) if weights else shuffled)
    endless = chain.from_iterable(_shuffled(domain, [seed, 0, epoch]) for epoch in count())
    tokens = loss_tokens = replayed = 0
    while True:
        # Replay is due where its share comes nearer to `fraction` with it than without it (error
        # diffusion).
        gain = (1 - fraction) * waiting[0][1].loss_tokens / 2 if waiting else math.inf
        due = fraction > 0 and fraction * loss_tokens - replayed >= gain
        document, example = waiting[0] if due else next(endless)
        tokens += len(example.input_ids)
        if tokens > max_tokens:
            return mixture, fraction > 0 and not waiting
        if due:
            waiting.popleft()
            replayed += example.loss_tokens
        loss_tokens += example.loss_tokens
        pool = mixture.replay if due else mixture.domain
        pool.drawn.append((document, example))
        mixture.examples.append(example)


def _by_weight(
    examples: Sequence[tuple[int, Encoded]], weights: Mapping[str, float]
) -> Iterator[tuple[int, Encoded]]:
    """The examples of the sources in `weights`; next comes the source furthest behind its share."""
    queues: dict[str, deque[tuple[int, Encoded]]] = {}
    for name, weight in weights.items():
        if weight:
            queues[name] = deque(pair for pair in examples if pair[1].source == name)
    drawn = dict.fromkeys(queues, 0.0)

    def share_after_half_of_next(name: str) -> float:
        _, example = queues[name][0]
        return (drawn[name] + example.loss_tokens / 2) / weights[name]

    while True:
        waiting = [name for name, queue in queues.items() if queue]
        if not waiting:
            return
        name = min(waiting, key=share_after_half_of_next)
        document, example = queues[name].popleft()
        drawn[name] += example.loss_tokens
        yield document, example


def _shuffled(documents: Sequence[Document], seed: list[int]) -> Iterator[tuple[int, Encoded]]:
    """Each example with the index of its document, document after document."""
    for document in np.random.default_rng(seed).permutation(len(documents)).tolist():
        for example in documents[document]:
            yield document, example
