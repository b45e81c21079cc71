"""What is trained on: domain examples and replayed general ones, interleaved, within a budget of tokens."""

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

TOLERANCE = (
    0.01  # of all loss-bearing tokens: a replay share met less closely than this is a shortfall
)


@dataclass(frozen=True)
class Pool:
    """What there is of one kind of data, and what was drawn of it: examples, with the index of their document."""

    documents: Sequence[Document]
    drawn: list[tuple[int, Encoded]] = field(default_factory=list)

    @property
    def used_loss_tokens(self) -> int:
        """Loss-bearing tokens of what was drawn."""
        return sum(example.loss_tokens for _, example in self.drawn)

    def loss_tokens_by_source(self) -> dict[str, int]:
        """Loss-bearing tokens drawn of each source."""
        counted: Counter[str] = Counter()
        for _, example in self.drawn:
            counted[example.source] += example.loss_tokens
        return dict(counted)

    def counts(self) -> dict[str, int]:
        """Documents, tokens and loss-bearing tokens: used, and available without repetition."""
        available = [example for document in self.documents for example in document]
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
    """Examples in order of training, and what they are made of."""

    examples: list[Encoded]
    domain: Pool
    replay: Pool
    fraction_asked: float

    @property
    def fraction_met(self) -> float:
        """Share of replay in the loss-bearing tokens of the mixture."""
        return self.replay.used_loss_tokens / (
            self.domain.used_loss_tokens + self.replay.used_loss_tokens
        )

    def metrics(self) -> dict[str, Any]:
        """Counts for a metrics file; `epochs` is domain tokens trained on over domain tokens available."""
        domain = self.domain.counts()
        return {
            "domain": {
                **domain,
                "epochs": round(domain["tokens_used"] / domain["tokens_available"], 4),
            },
            "replay": {
                **self.replay.counts(),
                "loss_tokens_by_source": self.replay.loss_tokens_by_source(),
                "fraction_asked": self.fraction_asked,
                "fraction_met": round(self.fraction_met, 4),
            },
        }


def replay_loss_tokens(domain: Sequence[Document], *, fraction: float, max_tokens: int) -> int:
    """Loss-bearing tokens of replay that a mixture can need at most, if replay carries loss as densely as `domain`."""
    examples = [example for document in domain for example in document]
    tokens = sum(len(example.input_ids) for example in examples)
    return math.ceil(
        fraction * max_tokens * sum(example.loss_tokens for example in examples) / max(1, tokens)
    )


def mix_replay(
    domain: Sequence[Document],
    replay: Sequence[Document],
    *,
    fraction: float,
    max_tokens: int,
    seed: int,
    weights: Mapping[str, float] | None = None,
) -> Mixture:
    """Draw examples up to `max_tokens` tokens in all, of which replay carries `fraction` of the loss-bearing ones.

    Both kinds are shuffled by document with the seed. Domain data repeats, reshuffled, until the budget is spent;
    when it exceeds the budget, what is used is a random subset. Replay never repeats: where it runs out, the share
    that it can have is spread evenly over the mixture, and the shortfall is logged as a warning and shows in the
    metrics. With `weights`, replay's loss-bearing tokens are shared out between the sources it names; one that runs out
    leaves its share to the others, which shows as well. Raises UserError when there is nothing to train on, replay is
    asked for and there is none, or a source is not there.
    """
    names = {example.source for document in replay for example in document}
    if unknown := sorted(set(weights or ()) - names):
        raise UserError(
            f"replay_weights names {', '.join(unknown)}; the sources are {', '.join(sorted(names))}"
        )
    if not any(domain):
        raise UserError(
            "there is no domain data to train on: see metrics/curate.json for what was dropped, and why"
        )
    if fraction > 0 and not any(replay):
        raise UserError(
            f"replay_fraction is {fraction}, but there is no general data to replay; add some to fetch.sources "
            "(general_text for pretrain, general_instructions for sft), or set replay_fraction to 0"
        )
    replay = [[replace(example, replayed=True) for example in document] for document in replay]
    mixture, exhausted = _interleave(domain, replay, fraction, max_tokens, seed, weights)
    if not mixture.examples:
        raise UserError(
            f"max_tokens is {max_tokens}: too few for the first example; allowed: as many as one needs"
        )
    if exhausted:
        mixture, _ = _interleave(domain, replay, mixture.fraction_met, max_tokens, seed, weights)
        mixture = Mixture(mixture.examples, mixture.domain, mixture.replay, fraction)
    if mixture.fraction_met < fraction - TOLERANCE:
        log.warning(
            "replay_fraction %s is not met: %.4f of the loss-bearing tokens are replay, all there is (%d tokens)",
            fraction,
            mixture.fraction_met,
            mixture.replay.counts()["loss_tokens_available"],
        )
    return mixture


def _interleave(
    domain: Sequence[Document],
    replay: Sequence[Document],
    fraction: float,
    max_tokens: int,
    seed: int,
    weights: Mapping[str, float] | None,
) -> tuple[Mixture, bool]:
    """The mixture, and whether replay ran out before the budget did."""
    mixture = Mixture([], Pool(domain), Pool(replay), fraction)
    shuffled = _shuffled(replay, [seed, 1, 0])
    waiting = deque(_by_weight(list(shuffled), weights) if weights else shuffled)
    endless = chain.from_iterable(_shuffled(domain, [seed, 0, epoch]) for epoch in count())
    tokens = loss_tokens = replayed = 0
    while True:
        # Replay is due where the share comes nearer to `fraction` with it than without (error diffusion).
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
        (mixture.replay if due else mixture.domain).drawn.append((document, example))
        mixture.examples.append(example)


def _by_weight(
    examples: Sequence[tuple[int, Encoded]], weights: Mapping[str, float]
) -> Iterator[tuple[int, Encoded]]:
    """The examples of the sources in `weights`, each next one from the source that is furthest behind its share."""
    queues = {
        name: deque(pair for pair in examples if pair[1].source == name)
        for name in weights
        if weights[name]
    }
    drawn = dict.fromkeys(queues, 0.0)
    while queues := {name: queue for name, queue in queues.items() if queue}:
        name = min(
            queues, key=lambda one: (drawn[one] + queues[one][0][1].loss_tokens / 2) / weights[one]
        )
        drawn[name] += queues[name][0][1].loss_tokens
        yield queues[name].popleft()


def _shuffled(documents: Sequence[Document], seed: list[int]) -> Iterator[tuple[int, Encoded]]:
    """Examples with the index of their document, document after document."""
    for document in np.random.default_rng(seed).permutation(len(documents)).tolist():
        for example in documents[document]:
            yield document, example
