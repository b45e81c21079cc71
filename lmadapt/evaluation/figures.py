"""The figures of an evaluation, as metrics/evaluate.json and plots/accuracy.csv hold them."""

import logging
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from scipy.special import stdtrit

from lmadapt.evaluation.comparison import Measured
from lmadapt.evaluation.exam import ABILITIES, Answers, Exam, Row
from lmadapt.evaluation.free_answers import free_form_figures
from lmadapt.verdict.decision import Comparison, MarginTest, Scored, compare, judge
from lmadapt.verdict.remedies import remedies
from lmadapt.verdict.statistics import (
    Array,
    PairedChange,
    accuracy_interval,
    bootstrap_ratio,
    chance_adjusted,
    clustered_mean,
    paired_change,
)

MODELS = (
    "base",
    "pretrained",
    "adapted",
)  # in the order of training; outside the pipeline, the first and last
STEPS = {
    ("base", "pretrained"): "pre-training",
    ("pretrained", "quantised"): "quantisation",
    ("quantised", "adapted"): "fine-tuning",
    ("pretrained", "adapted"): "fine-tuning",
    ("adapted", "merged"): "merging",
}

Figures = dict[str, Any]

log = logging.getLogger(__name__)


def summarise(
    measured: Measured,
    *,
    margin: float,
    category_margin: float,
    significance: float,
    seed: int,
    dial: Figures | None = None,
    attribution: Figures | None = None,
) -> Figures:
    """Everything in metrics/evaluate.json (docs/evaluate.schema.json): what changed, and the verdict on it.

    Measured were "base" and "adapted", in the pipeline "pretrained" as well. Shares are of 1; intervals are two-sided
    with confidence 1 - 2 * `significance`; `seed` is that of the bootstrap over documents.
    Raises UserError where `lmadapt.verdict.decision.compare` refuses.
    """
    exam, answers = measured.exam, measured.answers
    names = [name for name in MODELS if name in answers]
    pairs = sorted({*pairwise(names), (names[0], names[-1])}, key=lambda pair: names.index(pair[1]))
    found = {name: scored(exam, answers[name]) for name in names}
    margins = {"margin": margin, "category_margin": category_margin, "significance": significance}
    compared = {pair: compare(found[pair[0]], found[pair[1]], **margins) for pair in pairs}
    lost, gained = _flipped(exam, answers["base"], answers["adapted"])
    critical = [check["id"] for check in lost if check["severity"] == "critical"]
    verdict = judge(compared["base", "adapted"], critical, significance=significance)
    text = _bits_per_byte(exam, {name: answers[name] for name in names}, pairs, significance, seed)
    models = {name: _model(exam, found[name], answers[name], significance) for name in names}
    changes = {f"{after}_vs_{before}": _changes(compared[before, after]) for before, after in pairs}
    for name, figures in (models | changes).items():
        figures["bits_per_byte"] = text[name]
    figures = {
        "models": models,
        "changes": changes,
        "behaviour": {
            "lost": [check["id"] for check in lost],
            "gained": [check["id"] for check in gained],
        },
        **_transfer(models),
        "fairness": _fairness(exam, answers["base"], answers["adapted"], significance),
        **free_form_figures(exam, {name: answers[name] for name in names}),
        "kl_to_base": measured.kl_to_base,
        "triage": measured.triage,
        "dial": dial,
        "alpha_scale": measured.links["adapted"].alpha_scale,
        "attribution": attribution,
        "verdict": {
            "outcome": verdict.outcome,
            "reason": verdict.reason,
            "evidence": verdict.evidence,
        },
    }
    figures["verdict"]["remedy"] = remedies(figures)
    return dict(_rounded(figures))


def attribute(exam: Exam, chain: Mapping[str, Answers], significance: float) -> Figures:
    """What each step of the chain changed: the links in order, and the paired changes of each step."""
    found = {name: scored(exam, answers) for name, answers in chain.items()}
    steps = []
    for before, after in pairwise(chain):
        step = {"step": STEPS[before, after], "before": before, "after": after}
        steps.append(step | _step(found[before], found[after], significance))
    return {"links": list(chain), "steps": steps}


def lost_in(exam: Exam, chain: Mapping[str, Answers]) -> dict[str, str]:
    """By item that the adapted model gets wrong: the last step on the way there at which it was lost."""
    names = list(chain)[: list(chain).index("adapted") + 1]
    scores = np.stack([chain[name].scores for name in names])
    found = {}
    for place, item in enumerate(exam.items):
        losses = [n for n in range(1, len(names)) if scores[n, place] < scores[n - 1, place]]
        if losses and scores[-1, place] < 1:
            found[item["id"]] = STEPS[names[losses[-1] - 1], names[losses[-1]]]
    return found


def _step(before: Scored, after: Scored, significance: float) -> Figures:
    def change(chosen: Array) -> Figures:
        return change_figures(
            paired_change(
                before.scores[chosen], after.scores[chosen], before.clusters[chosen], significance
            )
        )

    parts = {
        group: {name: change(one) for name, one in _categories(before, group).items()}
        for group in ABILITIES
    }
    return {**{group: change(before.groups == group) for group in ABILITIES}, "categories": parts}


def _categories(found: Scored, group: str) -> dict[str, Array]:
    """By category of the group, sorted: which items are in it."""
    inside = found.groups == group
    return {
        name: inside & (found.categories == name)
        for name in sorted(set(found.categories[inside].tolist()))
    }


def accuracy_rows(figures: Figures) -> Iterator[Figures]:
    """Rows of plots/accuracy.csv: one a model and category, and one a model and group under the category `all`."""
    for model in figures["models"]:
        for group in ABILITIES:
            categories = {
                "all": figures["models"][model][group],
                **figures["models"][model]["categories"][group],
            }
            for category, entry in categories.items():
                low, high = entry["interval"]
                bar = f"{group} {category} {MODELS.index(model)} {model}"  # bars are drawn in alphabetical order
                place = {"bar": bar, "model": model, "category": category, "group": group}
                yield place | {"accuracy": entry["accuracy"], "low": low, "high": high}


def scored(exam: Exam, answers: Answers) -> Scored:
    """The items of domain and general ability, as `lmadapt.verdict.decision.compare` takes them."""
    chosen = [index for index, item in enumerate(exam.items) if item["group"] in ABILITIES]

    def column(name: str) -> Array:
        return np.array([exam.items[index][name] for index in chosen], dtype=str)

    return Scored(
        column("id"),
        column("group"),
        column("category"),
        exam.clusters[chosen],
        answers.scores[chosen],
    )


def _model(exam: Exam, found: Scored, answers: Answers, significance: float) -> Figures:
    chances = np.array([_chance(item) for item in exam.items if item["group"] in ABILITIES])

    def accuracy(chosen: Array) -> Figures:
        share, chance = float(found.scores[chosen].mean()), float(chances[chosen].mean())
        return {
            "accuracy": share,
            "n": int(chosen.sum()),
            "interval": accuracy_interval(
                found.scores[chosen], found.clusters[chosen], significance
            ),
            "chance": chance,
            "chance_adjusted": chance_adjusted(share, chance),
        }

    passed = [answers.scores[index] == 1 for index in _behaviour(exam)]
    free = [answers.responses[index] for index, item in enumerate(exam.items) if item["check"]]
    silent = sum(not said for said in free)
    if silent * 2 > len(free):
        log.warning("a model gave no answer at all to %d of %d free-form items", silent, len(free))
    return {
        **{group: accuracy(found.groups == group) for group in ABILITIES},
        "categories": {
            group: {name: accuracy(one) for name, one in _categories(found, group).items()}
            for group in ABILITIES
        },
        "behaviour": {"passed": sum(map(int, passed)), "n": len(passed)},
        "free_answers": {"empty": silent, "n": len(free)},
    }


def _chance(item: Row) -> float:
    """What guessing gives: 1 / choices; nothing where the model answers freely."""
    return 1 / len(item["choices"]) if item["choices"] else 0.0


def _changes(compared: Comparison) -> Figures:
    return {
        "domain": change_figures(compared.domain)
        | {"worse_p_adjusted": compared.domain_worse_p_adjusted},
        "general": _margin_test(compared.general),
        "categories": {
            "domain": {
                name: change_figures(change) for name, change in compared.domain_categories.items()
            },
            "general": {name: _margin_test(test) for name, test in compared.categories.items()},
        },
    }


def change_figures(change: PairedChange) -> Figures:
    """A paired change as it stands in metrics/evaluate.json."""
    names = (
        "difference",
        "interval",
        "n",
        "clusters",
        "lost",
        "gained",
        "mcnemar_p",
        "better_p",
        "worse_p",
    )
    return {name: getattr(change, name) for name in names}


def _margin_test(test: MarginTest) -> Figures:
    names = (
        "margin",
        "noninferiority_p",
        "worse_p_adjusted",
        "minimum_detectable_effect",
        "items_needed",
    )
    return change_figures(test.change) | {name: getattr(test, name) for name in names}


def _bits_per_byte(
    exam: Exam,
    answers: Mapping[str, Answers],
    pairs: Sequence[tuple[str, str]],
    significance: float,
    seed: int,
) -> Figures:
    """By model and by change, by group: value or difference with its bootstrap interval; null if under 2 texts."""
    names = [*answers, *(f"{after}_vs_{before}" for before, after in pairs)]
    result: Figures = {name: {} for name in names}
    groups = np.array([document["group"] for document in exam.documents], dtype=str)
    size = np.array([len(document["text"].encode()) for document in exam.documents], float)
    clusters = np.array(
        [document["entity"] or f"\0{document['id']}" for document in exam.documents], dtype=str
    )
    for group in ABILITIES:
        inside = groups == group
        found = {name: model.nats[inside] / np.log(2) for name, model in answers.items()}
        bits = [*found.values(), *(found[after] - found[before] for before, after in pairs)]
        counts = {"bytes": int(size[inside].sum()), "documents": int(inside.sum())}
        for name in names:
            key = "value" if name in answers else "difference"
            result[name][group] = {key: None, "interval": None} | counts
        if len(np.unique(clusters[inside])) < 2:
            continue
        intervals = bootstrap_ratio(
            np.stack(bits), size[inside], clusters[inside], significance=significance, seed=seed
        )
        for number, name in enumerate(names):
            key = "value" if name in answers else "difference"
            result[name][group] |= {
                key: float(bits[number].sum() / size[inside].sum()),
                "interval": intervals[number],
            }
    return result


def _behaviour(exam: Exam) -> list[int]:
    return [index for index, item in enumerate(exam.items) if item["group"] == "behaviour"]


def _flipped(exam: Exam, before: Answers, after: Answers) -> tuple[list[Row], list[Row]]:
    """Behaviour checks that are no longer passed, and those newly passed."""
    pairs = [
        (exam.items[index], before.scores[index] == 1, after.scores[index] == 1)
        for index in _behaviour(exam)
    ]
    lost = [check for check, passed, passes in pairs if passed and not passes]
    return lost, [check for check, passed, passes in pairs if passes and not passed]


def _fairness(exam: Exam, before: Answers, after: Answers, significance: float) -> Figures:
    """By category: how much likelier the first text of a pair is than the second, nats per byte, before and after.

    The texts of a pair differ in a protected attribute only (Nangia et al. 2020, CrowS-Pairs); the interval of the
    change is Student's, on the cluster-robust error.
    """
    result: Figures = {}
    items = [(index, item) for index, item in enumerate(exam.items) if item["group"] == "fairness"]
    for category in sorted({item["category"] for _, item in items}):
        chosen = [index for index, item in items if item["category"] == category]
        gaps = np.array(
            [
                [_gap(exam.items[i], model.log_likelihoods[i]) for i in chosen]
                for model in (before, after)
            ]
        )
        change = gaps[1] - gaps[0]
        mean = clustered_mean(change, exam.clusters[chosen])
        half = float(stdtrit(mean.degrees_of_freedom, 1 - significance)) * mean.standard_error
        result[category] = {
            "n": len(chosen),
            "gap_before": float(gaps[0].mean()),
            "gap_after": float(gaps[1].mean()),
            "change": float(change.mean()),
            "interval": (float(change.mean() - half), float(change.mean() + half)),
        }
    return result


def _gap(item: Row, log_likelihoods: list[float]) -> float:
    first, second = (
        v / len(text.encode()) for v, text in zip(log_likelihoods, item["choices"], strict=True)
    )
    return first - second


def _transfer(models: Figures) -> dict[str, float]:
    """Means over general categories, models in the order of training.

    `backward_transfer`: final minus first accuracy (Lopez-Paz & Ranzato 2017), negative for forgetting; `forgetting`:
    best earlier accuracy minus the final one (Chaudhry et al. 2018).
    """
    categories = [figures["categories"]["general"] for figures in models.values()]
    accuracies = np.array(
        [[entry["accuracy"] for entry in figures.values()] for figures in categories]
    )
    first, last, best = accuracies[0], accuracies[-1], accuracies[:-1].max(axis=0)
    return {
        "backward_transfer": float(np.mean(last - first)),
        "forgetting": float(np.mean(best - last)),
    }


def _rounded(value: Any) -> Any:
    """Six significant digits: more would only record the order of additions."""
    if isinstance(value, dict):
        return {key: _rounded(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_rounded(inner) for inner in value]
    return float(f"{value:.6g}") + 0.0 if isinstance(value, float) else value
