"""Bits per byte of held-out text, by model and by change from one model to a later one."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from lmadapt.evaluation.answers import Answers
from lmadapt.evaluation.exam import ABILITIES, Exam
from lmadapt.evaluation.settings import EvaluationSettings
from lmadapt.verdict.figures import Text, TextByGroup, TextChange, TextChangeByGroup
from lmadapt.verdict.ratio_interval import clustered_ratio
from lmadapt.verdict.statistics import Array, Interval

Pair = tuple[str, str]  # names of an earlier and a later model


@dataclass(frozen=True)
class TextFigures:
    """Bits per byte of every model and every change."""

    models: dict[str, TextByGroup]
    changes: dict[Pair, TextChangeByGroup]


@dataclass(frozen=True)
class _Texts:
    """The documents of one group."""

    places: list[int]  # in the exam
    sizes: Array  # in bytes
    entities: Array

    @property
    def counts(self) -> dict[str, int]:
        return {"bytes": int(self.sizes.sum()), "documents": len(self.places)}

    def per_byte(self, nats: Array, significance: float) -> tuple[float | None, Interval | None]:
        """Bits per byte, and its interval; `nats` is of all documents of the exam."""
        if len(set(self.entities.tolist())) < 2:
            return None, None
        ratio = clustered_ratio(nats[self.places] / np.log(2), self.sizes, self.entities)
        return ratio.value, ratio.interval(significance)


def text_figures(
    exam: Exam,
    answers: Mapping[str, Answers],
    pairs: Sequence[Pair],
    settings: EvaluationSettings,
) -> TextFigures:
    """Bits per byte with intervals that allow for documents about one entity.

    Both are None where a group has texts about fewer than two entities.
    """
    groups = {group: _texts_of(exam, group) for group in ABILITIES}

    def of_model(texts: _Texts, model: Answers) -> Text:
        value, interval = texts.per_byte(model.nats, settings.significance)
        return Text(value=value, interval=interval, **texts.counts)

    def of_change(texts: _Texts, before: Answers, after: Answers) -> TextChange:
        change, interval = texts.per_byte(after.nats - before.nats, settings.significance)
        return TextChange(difference=change, interval=interval, **texts.counts)

    models = {
        name: TextByGroup(**{group: of_model(texts, model) for group, texts in groups.items()})
        for name, model in answers.items()
    }
    changes = {}
    for pair in pairs:
        both = [answers[name] for name in pair]
        found = {group: of_change(texts, *both) for group, texts in groups.items()}
        changes[pair] = TextChangeByGroup(**found)
    return TextFigures(models, changes)


def _texts_of(exam: Exam, group: str) -> _Texts:
    places = [n for n, document in enumerate(exam.documents) if document["group"] == group]
    documents = [exam.documents[place] for place in places]
    return _Texts(
        places=places,
        sizes=np.array([len(document["text"].encode()) for document in documents], float),
        entities=np.array(
            [document["entity"] or f"\0{document['id']}" for document in documents], dtype=str
        ),
    )
