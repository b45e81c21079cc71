"""Two models' answers to an exam with eight general and four domain categories."""

from dataclasses import replace

import numpy as np

from lmadapt.verdict.decision import Scored

GENERAL = [f"g{number}" for number in range(8)]
DOMAIN = [f"d{number}" for number in range(4)]
ITEMS = 290  # of each category


def right(share: float, seed: int = 0) -> Scored:
    """A model that answers that share of the items right."""
    names = np.repeat(DOMAIN + GENERAL, ITEMS)
    items = np.arange(len(names))
    return Scored(
        ids=items.astype(str),
        groups=np.where(np.isin(names, DOMAIN), "domain", "general"),
        categories=names,
        clusters=items,
        scores=(np.random.default_rng(seed).random(len(names)) < share).astype(float),
    )


def changed(model: Scored, chosen: np.ndarray, share: float, *, to: float, seed: int = 1) -> Scored:
    """The same model, but with the score `to` on that share of the chosen items."""
    hit = chosen & (np.random.default_rng(seed).random(len(chosen)) < share)
    return replace(model, scores=np.where(hit, to, model.scores))


BASE = right(0.7)
BETTER = changed(BASE, BASE.groups == "domain", 0.4, to=1.0)
