"""The exam: evaluation items and held-out documents, checked and turned into tokens once."""

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any, NotRequired, TypedDict, cast

import numpy as np

from lmadapt.core.errors import UserError
from lmadapt.evaluation.clusters import joined_clusters
from lmadapt.evaluation.excerpts import draw_excerpts
from lmadapt.models.chat import Message
from lmadapt.models.questions import Question, encode_document, encode_item
from lmadapt.models.system_messages import with_system
from lmadapt.sources.answer_checks import score_answer

ABILITIES = ("domain", "general")  # the groups of items that have a score and enter the verdict
FAIRNESS_CHOICES = 2  # of an item of the fairness probe: two texts, neither of them right

log = logging.getLogger(__name__)


class Item(TypedDict):
    """What the evaluation reads of a row of the table ITEM."""

    id: str
    group: str  # domain | general | behaviour | fairness
    category: str
    cluster: str  # the entity it is about, or near-duplicates share; empty where it has none
    system: NotRequired[str | None]  # system message before the prompt
    prompt: str
    choices: list[str]  # empty where the model answers in its own words
    answer: int | None  # index of the right choice; of a fairness pair: what should be likelier
    check: str  # JSON; scores an answer in the model's own words
    severity: str  # of a behaviour check: critical | major | minor
    subgroup: NotRequired[str | None]  # the people that a classifier's item is about
    target: NotRequired[str]  # the right answer to an item of lm-evaluation-harness


class Document(TypedDict):
    """What the evaluation reads of a row of the table HELDOUT."""

    id: str
    group: str  # domain | general
    entity: str  # what the text is about; empty where that is unknown
    text: str  # in an exam its beginning


@dataclass(frozen=True)
class Exam:
    """Items and held-out documents, and their tokens."""

    items: list[Item]
    questions: list[Question | None]  # one an item; None where the model answers freely
    documents: list[Document]
    windows: list[list[Question]]  # of each document

    def of_items(self, chosen: Callable[[Item], bool]) -> "Exam":
        """The exam with the items that `chosen` accepts, and without documents."""
        places = [place for place, item in enumerate(self.items) if chosen(item)]
        items = [self.items[place] for place in places]
        return Exam(items, [self.questions[place] for place in places], [], [])

    def without(self, items: "Exam") -> "Exam":
        """This exam without the items of another; the documents stay."""
        taken = {item["id"] for item in items.items}
        rest = self.of_items(lambda item: item["id"] not in taken)
        return replace(rest, documents=self.documents, windows=self.windows)

    def encoded_by(self, tokenizer: Any) -> "Exam":
        """The same items and documents for a model with another tokenizer or chat template."""
        return _encode(self.items, self.documents, tokenizer)

    @property
    def clusters(self) -> np.ndarray:
        """The cluster of each item; an item without one is a cluster of its own."""
        return np.array([item["cluster"] or f"\0{item['id']}" for item in self.items], dtype=str)


def make_exam(
    items: Iterable[Mapping[str, Any]],
    heldout: Iterable[Mapping[str, Any]],
    tokenizer: Any,
    *,
    heldout_tokens: int,
    seed: int,
) -> Exam:
    """The exam of all items, sorted by id, and up to `heldout_tokens` tokens of each group of text.

    items, heldout: rows of the tables ITEM and HELDOUT; `seed` draws the documents, of which the
    beginnings are scored. Items without an entity that repeat each other share a cluster.
    Raises UserError when two items have one id, or an item has neither choices nor a check, an
    answer that is none of its choices, or a check that cannot be applied; and when the fairness
    pairs of a category have several answers.
    """
    ordered = cast(list[Item], sorted(items, key=lambda item: str(item["id"])))
    for before, after in pairwise(ordered):
        if before["id"] == after["id"]:
            raise UserError(
                f"item {before['id']!r} occurs twice among the evaluation items; ids must be unique"
            )
    for item in ordered:
        _require_scorable(item)
    _require_one_aim(ordered)
    ordered = _clustered(ordered)
    texts = cast(list[Document], list(heldout))
    chosen = list(draw_excerpts(texts, tokenizer, heldout_tokens, seed))
    left_out = {text["group"] for text in texts} - {document["group"] for document in chosen}
    for group in sorted(left_out):
        log.warning(
            "no %s text is scored: no document has a word within its share of %d tokens; raise "
            "evaluate.heldout_tokens",
            group,
            heldout_tokens,
        )
    return _encode(ordered, chosen, tokenizer)


def _clustered(items: list[Item]) -> list[Item]:
    """The items, with one cluster for those that repeat each other and name no entity."""
    judged = [item for item in items if item["group"] in ABILITIES]
    clusters = joined_clusters(
        [item["id"] for item in judged],
        [item["cluster"] for item in judged],
        ["\n".join([item["prompt"], *item["choices"]]) for item in judged],
    )
    found = dict(zip([item["id"] for item in judged], clusters, strict=True))
    return [{**item, "cluster": found.get(item["id"], item["cluster"])} for item in items]


def conversation(tokenizer: Any, item: Item, shots: Sequence[Message] = ()) -> list[Message]:
    """What a model is asked: the system message, the conversation `shots`, the prompt."""
    asked: list[Message] = [*shots, {"role": "user", "content": item["prompt"]}]
    return with_system(tokenizer, item.get("system") or "", asked)


def _encode(items: list[Item], documents: list[Document], tokenizer: Any) -> Exam:
    def question(item: Item) -> Question | None:
        if not item["choices"]:
            return None
        *before, asked = conversation(tokenizer, item)
        return encode_item(tokenizer, asked["content"], item["choices"], before)

    windows = [encode_document(tokenizer, document["text"]) for document in documents]
    return Exam(items, [question(item) for item in items], documents, windows)


def _require_scorable(item: Item) -> None:
    count, answer = len(item["choices"]), item["answer"]
    if item["group"] == "fairness":
        if count != FAIRNESS_CHOICES:
            raise UserError(
                f"item {item['id']!r}: a pair of the fairness probe has two choices, not {count}"
            )
        if answer not in (None, 0, 1):
            raise UserError(
                f"item {item['id']!r}: answer {answer} of a fairness pair; allowed: 0, 1 or none"
            )
    elif count:
        if answer is None or not 0 <= answer < count:
            raise UserError(
                f"item {item['id']!r}: answer {answer} is not among its {count} choices; allowed: "
                f"0 to {count - 1}"
            )
    elif item["check"]:
        score_answer("", item["check"])
    else:
        raise UserError(
            f"item {item['id']!r} has neither choices nor a check, so no answer could be right"
        )


def _require_one_aim(items: Sequence[Item]) -> None:
    """The fairness pairs of a category agree on which text should be likelier."""
    aims: dict[str, int | None] = {}
    for item in items:
        if item["group"] == "fairness":
            aim = aims.setdefault(item["category"], item["answer"])
            if aim != item["answer"]:
                raise UserError(
                    f"item {item['id']!r}: answer {item['answer']}, but other fairness pairs of "
                    f"the category {item['category']!r} have {aim}; allowed: one for all of them"
                )
