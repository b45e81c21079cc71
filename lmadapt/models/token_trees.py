"""Questions packed into trees of tokens: what several questions share is computed once."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from lmadapt.models.questions import Question


class ScoredToken(NamedTuple):
    """A token whose log-likelihood counts towards a continuation of a question."""

    question: int
    continuation: int
    node: int


@dataclass
class TokenTree:
    """Questions as one tree: a beginning that two of them share is in it once."""

    tokens: list[int] = field(default_factory=list)  # one a node
    parents: list[int] = field(default_factory=list)  # of each node; -1 for a first token
    depths: list[int] = field(default_factory=list)  # of each node; its position in the text
    scored: list[ScoredToken] = field(default_factory=list)
    children: dict[tuple[int, int], int] = field(default_factory=dict)  # by parent and token

    def extend(self, parent: int, tokens: Sequence[int]) -> list[int]:
        """The nodes of `tokens` below `parent`; those that are missing are added."""
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

    def cache_key(self) -> list[list[int]]:
        """All that the log-likelihoods of this tree depend on, besides the model."""
        return [self.tokens, self.parents, [scored.node for scored in self.scored]]

    def visible(self) -> np.ndarray:
        """Which node (row) sees which (column): itself and its ancestors; (n, n) bool."""
        sees = np.eye(len(self.tokens), dtype=bool)
        for node, parent in enumerate(self.parents):
            if parent >= 0:
                sees[node] |= sees[parent]
        return sees


def pack_trees(questions: Sequence[Question], limit: int) -> list[TokenTree]:
    """All questions in trees of at most `limit` tokens; a longer question has its own tree.

    Questions are sorted by context, so that neighbours share beginnings.
    """
    trees = [TokenTree()]
    before: list[int] = []
    for index in sorted(range(len(questions)), key=lambda index: questions[index].context):
        context, continuations = questions[index].context, questions[index].continuations
        added = len(context) - _shared_length(before, context) + sum(map(len, continuations))
        if trees[-1].tokens and len(trees[-1].tokens) + added > limit:
            trees.append(TokenTree())
        tree, before = trees[-1], context
        last = tree.extend(-1, context)[-1]
        for number, continuation in enumerate(continuations):
            nodes = tree.extend(last, continuation)
            tree.scored += [ScoredToken(index, number, node) for node in nodes]
    return [tree for tree in trees if tree.tokens]


def _shared_length(one: Sequence[int], other: Sequence[int]) -> int:
    """How many tokens both sequences start with."""
    for place, (first, second) in enumerate(zip(one, other, strict=False)):
        if first != second:
            return place
    return min(len(one), len(other))
