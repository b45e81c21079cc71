"""Bits per byte of held-out text, by model and by change from one model to a later one."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from lmadapt.evaluation.answers import Answers
from lmadapt.evaluation.exam import Exam
from lmadapt.evaluation.settings import EvaluationSettings
from lmadapt.verdict.figures import Text, TextByGroup, TextChange, TextChangeByGroup
from lmadapt.verdict.statistics import bootstrap_ratio

Pair = tuple[str, str]  # names of an earlier and a later model


@dataclass(frozen=True)
class TextFigures:
    """Bits per byte of every model and every change."""

    models: dict[str, TextByGroup]
    changes: dict[Pair, TextChangeByGroup]


def text_figures(
    exam: Exam,
    answers: Mapping[str, Answers],
    pairs: Sequence[Pair],
    settings: EvaluationSettings,
) -> TextFigures:
    """Bits per byte with bootstrap intervals, which resample whole entities.

    Both are None where a group has texts about fewer than two entities.
    """
    domain, general = (
        _group_figures(exam, answers, pairs, group, settings) for group in ("domain", "general")
    )
    return TextFigures(
        models={
            name: TextByGroup(domain=domain.models[name], general=general.models[name])
            for name in answers
        },
        changes={
            pair: TextChangeByGroup(domain=domain.changes[pair], general=general.changes[pair])
            for pair in pairs
        },
    )


@dataclass(frozen=True)
class _GroupFigures:
    models: dict[str, Text]
    changes: dict[Pair, TextChange]


def _group_figures(
    exam: Exam,
    answers: Mapping[str, Answers],
    pairs: Sequence[Pair],
    group: str,
    settings: EvaluationSettings,
) -> _GroupFigures:
    places = [n for n, document in enumerate(exam.documents) if document["group"] == group]
    documents = [exam.documents[place] for place in places]
    sizes = np.array([len(document["text"].encode()) for document in documents], float)
    entities = [document["entity"] or f"\0{document['id']}" for document in documents]
    counts = {"bytes": int(sizes.sum()), "documents": len(documents)}
    if len(set(entities)) < 2:
        return _GroupFigures(
            {name: Text(value=None, interval=None, **counts) for name in answers},
            {pair: TextChange(difference=None, interval=None, **counts) for pair in pairs},
        )
    bits = {name: model.nats[places] / np.log(2) for name, model in answers.items()}
    rows = [*bits.values(), *(bits[after] - bits[before] for before, after in pairs)]
    intervals = bootstrap_ratio(
        np.stack(rows),
        sizes,
        np.array(entities, dtype=str),
        significance=settings.significance,
        seed=settings.seed,
    )
    values = [float(row.sum() / sizes.sum()) for row in rows]
    found = list(zip(values, intervals, strict=True))
    models = dict(zip(answers, found[: len(answers)], strict=True))
    changes = dict(zip(pairs, found[len(answers) :], strict=True))
    return _GroupFigures(
        {
            name: Text(value=value, interval=interval, **counts)
            for name, (value, interval) in models.items()
        },
        {
            pair: TextChange(difference=value, interval=interval, **counts)
            for pair, (value, interval) in changes.items()
        },
    )
