"""The figures of an evaluation, as metrics/evaluate.json and plots/accuracy.csv hold them."""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from lmadapt.evaluation import Answers, Exam
from lmadapt.statistics import Array, PairedChange, accuracy_interval, bootstrap_ratio
from lmadapt.verdict import Comparison, MarginTest, Scored, compare, judge

MODELS = ("base", "pretrained", "adapted")
CHANGES = (("base", "pretrained"), ("pretrained", "adapted"), ("base", "adapted"))
GROUPS = ("domain", "general")

Figures = dict[str, Any]


def summarise(
    exam: Exam,
    answers: Mapping[str, Answers],
    *,
    margin: float,
    category_margin: float,
    significance: float,
    seed: int,
) -> Figures:
    """Accuracies, bits per byte, behaviour, changes between models and the verdict on the last change.

    Shares are of 1; intervals are two-sided with confidence 1 - 2 * `significance`; `seed` is that of the bootstrap
    over documents. Raises UserError where `lmadapt.verdict.compare` refuses.
    """
    scored = {name: _scored(exam, answers[name]) for name in MODELS}
    margins = {"margin": margin, "category_margin": category_margin, "significance": significance}
    compared = {pair: compare(scored[pair[0]], scored[pair[1]], **margins) for pair in CHANGES}
    lost, gained = _flipped(exam, answers["base"], answers["adapted"])
    critical = [check["id"] for check in lost if check["severity"] == "critical"]
    verdict = judge(compared["base", "adapted"], critical, significance=significance)
    text = _bits_per_byte(exam, answers, significance, seed)
    models = {name: _model(scored[name], answers[name], significance) for name in MODELS}
    changes = {f"{after}_vs_{before}": _changes(compared[before, after]) for before, after in CHANGES}
    for name, figures in (models | changes).items():
        figures["bits_per_byte"] = text[name]
    figures = {
        "models": models,
        "changes": changes,
        "behaviour": {"lost": [check["id"] for check in lost], "gained": [check["id"] for check in gained]},
        "backward_transfer": _backward_transfer(models),
        "forgetting": _forgetting(models),
        "verdict": {"outcome": verdict.outcome, "reason": verdict.reason, "evidence": verdict.evidence},
    }
    return dict(_rounded(figures))


def accuracy_rows(figures: Figures) -> Iterator[Figures]:
    """Rows of plots/accuracy.csv: one a model and category, and one a model and group under the category `all`."""
    for model in MODELS:
        for group in GROUPS:
            categories = {"all": figures["models"][model][group], **figures["models"][model]["categories"][group]}
            for category, entry in categories.items():
                low, high = entry["interval"]
                bar = f"{group} {category} {MODELS.index(model)} {model}"  # bars are drawn in alphabetical order
                place = {"bar": bar, "model": model, "category": category, "group": group}
                yield place | {"accuracy": entry["accuracy"], "low": low, "high": high}


def _scored(exam: Exam, answers: Answers) -> Scored:
    def column(name: str) -> Array:
        return np.array([item[name] for item in exam.items], dtype=str)

    clusters = np.array([item["cluster"] or f"\0{item['id']}" for item in exam.items], dtype=str)
    return Scored(column("id"), column("group"), column("category"), clusters, answers.correct)


def _model(scored: Scored, answers: Answers, significance: float) -> Figures:
    def accuracy(chosen: Array) -> Figures:
        correct = scored.correct[chosen]
        interval = accuracy_interval(correct, scored.clusters[chosen], significance)
        return {"accuracy": float(correct.mean()), "n": len(correct), "interval": interval}

    def categories(group: str) -> Figures:
        inside = scored.groups == group
        names = sorted(set(scored.categories[inside].tolist()))
        return {name: accuracy(inside & (scored.categories == name)) for name in names}

    return {
        **{group: accuracy(scored.groups == group) for group in GROUPS},
        "categories": {group: categories(group) for group in GROUPS},
        "behaviour": {"passed": sum(answers.passed), "n": len(answers.passed)},
    }


def _changes(compared: Comparison) -> Figures:
    return {
        "domain": _change(compared.domain) | {"worse_p_adjusted": compared.domain_worse_p_adjusted},
        "general": _margin_test(compared.general),
        "categories": {
            "domain": {name: _change(change) for name, change in compared.domain_categories.items()},
            "general": {name: _margin_test(test) for name, test in compared.categories.items()},
        },
    }


def _change(change: PairedChange) -> Figures:
    names = ("difference", "interval", "n", "clusters", "lost", "gained", "mcnemar_p", "better_p", "worse_p")
    return {name: getattr(change, name) for name in names}


def _margin_test(test: MarginTest) -> Figures:
    names = ("margin", "noninferiority_p", "worse_p_adjusted", "minimum_detectable_effect", "items_needed")
    return _change(test.change) | {name: getattr(test, name) for name in names}


def _bits_per_byte(exam: Exam, answers: Mapping[str, Answers], significance: float, seed: int) -> Figures:
    """By model and by change, by group: value or difference with its bootstrap interval; null if under 2 texts."""
    names = [*MODELS, *(f"{after}_vs_{before}" for before, after in CHANGES)]
    result: Figures = {name: {} for name in names}
    groups = np.array([document["group"] for document in exam.documents], dtype=str)
    size = np.array([len(document["text"].encode()) for document in exam.documents], float)
    clusters = np.array([document["entity"] or f"\0{document['id']}" for document in exam.documents], dtype=str)
    for group in GROUPS:
        inside = groups == group
        bits = [answers[name].nats[inside] / np.log(2) for name in MODELS]
        bits += [bits[MODELS.index(after)] - bits[MODELS.index(before)] for before, after in CHANGES]
        counts = {"bytes": int(size[inside].sum()), "documents": int(inside.sum())}
        for name in names:
            key = "value" if name in MODELS else "difference"
            result[name][group] = {key: None, "interval": None} | counts
        if len(np.unique(clusters[inside])) < 2:
            continue
        intervals = bootstrap_ratio(
            np.stack(bits), size[inside], clusters[inside], significance=significance, seed=seed
        )
        for number, name in enumerate(names):
            key = "value" if name in MODELS else "difference"
            result[name][group] |= {key: float(bits[number].sum() / size[inside].sum()), "interval": intervals[number]}
    return result


def _flipped(exam: Exam, before: Answers, after: Answers) -> tuple[list[Figures], list[Figures]]:
    triples = list(zip(exam.checks, before.passed, after.passed, strict=True))
    lost = [check for check, passed, passes in triples if passed and not passes]
    return lost, [check for check, passed, passes in triples if passes and not passed]


def _general_accuracies(models: Figures) -> Array:
    """(models, categories), models in the order of training."""
    categories = [models[name]["categories"]["general"] for name in MODELS]
    return np.array([[entry["accuracy"] for entry in figures.values()] for figures in categories])


def _backward_transfer(models: Figures) -> float:
    """Mean over general categories of final minus first accuracy (Lopez-Paz & Ranzato 2017); negative: forgetting."""
    accuracies = _general_accuracies(models)
    return float(np.mean(accuracies[-1] - accuracies[0]))


def _forgetting(models: Figures) -> float:
    """Mean over general categories of the best earlier accuracy minus the final one (Chaudhry et al. 2018)."""
    accuracies = _general_accuracies(models)
    return float(np.mean(accuracies[:-1].max(axis=0) - accuracies[-1]))


def _rounded(value: Any) -> Any:
    """Six significant digits: more would only record the order of additions."""
    if isinstance(value, dict):
        return {key: _rounded(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_rounded(inner) for inner in value]
    return float(f"{value:.6g}") + 0.0 if isinstance(value, float) else value
