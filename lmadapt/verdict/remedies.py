"""What to try when a model may not be shipped: sentences that follow from the figures.

docs/verdict.md states the rule behind each sentence. The thresholds are our own choice.
"""

from collections.abc import Mapping
from typing import Literal, overload

from lmadapt.verdict.figures import (
    Change,
    Changes,
    DomainChange,
    EvaluationFigures,
    MarginTest,
    SpuriousForgetting,
    StepChange,
)

SPURIOUS = 0.5  # share of the lost items, beyond guessing, that another form of asking regains
SATURATED = 0.9  # share of the domain's gain that a weaker adapter already gives
LOSSLESS_STEPS = ("quantisation", "merging")  # these should change nothing
TRY_SCALES = "try whether a weaker adapter keeps more: evaluate.alpha_scale: auto"

ADVICE = {
    "pre-training": "raise pretrain.replay_fraction or lower pretrain.learning_rate",
    "quantisation": "4 bits cost every model compared; serve in bf16, and judge it so "
    "(evaluate.precision: bf16)",
    "fine-tuning": "raise sft.replay_fraction, lower sft.learning_rate or train MLPs only "
    "(sft.target_modules: retain)",
    "merging": "serve the adapter over the quantised model that it was trained on instead of "
    "merging it",
    "training": "train with more replay of such items, or with a lower learning rate",
}


def remedies(figures: EvaluationFigures) -> list[str]:
    """What the evidence suggests to try; empty for SHIP."""
    if figures.verdict.outcome == "SHIP":
        return []
    change = figures.changes["adapted_vs_base"]
    blamed = blamed_steps(figures)
    spurious = _spurious(figures.triage) if blamed else []
    if spurious:
        blamed.pop("fine-tuning", None)
    losses = [
        f"{', '.join(names)}: lost most in {step}; {ADVICE[step]}" for step, names in blamed.items()
    ]
    if "fine-tuning" in blamed and figures.dial is None:
        losses.append(TRY_SCALES)
    return [
        *_behaviour(figures.behaviour.lost),
        *_gain(change.domain),
        *spurious,
        *(losses if blamed else _drift(figures)),
        *_memorising(figures),
        *_overtraining(figures),
        *_few_items(figures),
    ]


def blamed_steps(figures: EvaluationFigures) -> dict[str, list[str]]:
    """By step: what it lost, as "general ability" and names of categories.

    A loss is blamed on the step in which it fell most, or on "training" if it fell in no known
    step. A loss in quantisation or merging is blamed on that step in any case.
    """
    steps = _steps(figures)
    blamed: dict[str, list[str]] = {}
    for name, whole in _general(figures.changes["adapted_vs_base"]).items():
        parts = {step: changes[name] for step, changes in steps.items() if name in changes}
        guilty = {
            step
            for step, part in parts.items()
            if step in LOSSLESS_STEPS and _state(part, whole.margin) == "lost"
        }
        if _state(whole, whole.margin) == "lost":
            guilty.add(_worst_step(parts))
        for step in sorted(guilty):
            blamed.setdefault(step, []).append(name)
    return blamed


def _steps(figures: EvaluationFigures) -> dict[str, Mapping[str, Change]]:
    """By step, then by "general ability" or category: what changed.

    Without attribution, these are the stages of training, in evaluate.precision.
    """
    if figures.attribution:
        return {step.step: _general(step) for step in figures.attribution.steps}
    stages = {"pre-training": "pretrained_vs_base", "fine-tuning": "adapted_vs_pretrained"}
    return {
        step: _general(figures.changes[key])
        for step, key in stages.items()
        if key in figures.changes
    }


def _worst_step(parts: Mapping[str, Change]) -> str:
    """The step with the largest fall. Merging is left out: it comes after the model judged."""
    fell = {
        step: part.difference
        for step, part in parts.items()
        if step != "merging" and part.difference < 0
    }
    return min(fell, key=fell.__getitem__, default="training")


def _behaviour(lost: list[str]) -> list[str]:
    if not lost:
        return []
    return [
        f"{', '.join(lost)}: lost; replay general instructions that show it (sft.replay_fraction)"
    ]


def _gain(domain: DomainChange) -> list[str]:
    low, high = domain.interval
    if high < 0:
        return [
            "the domain became worse: ask its instructions in the form of its items, and lower "
            "sft.learning_rate"
        ]
    if low <= 0:
        return [
            "train longer on the domain (pretrain.max_tokens, sft.max_tokens), or add domain items"
        ]
    return []


def _spurious(found: SpuriousForgetting | None) -> list[str]:
    if not found or found.spurious < SPURIOUS:
        return []
    return [
        f"{found.spurious:.0%} of the lost items, beyond guessing, are right when asked in another "
        "form: the knowledge is kept, the habit of answering lost; replay instructions in their "
        "form (sft.replay_fraction)"
    ]


def _memorising(figures: EvaluationFigures) -> list[str]:
    """Pre-training that makes general text harder and domain text no easier."""
    if "pretrained_vs_base" not in figures.changes:
        return []
    text = figures.changes["pretrained_vs_base"].bits_per_byte
    domain, general = text.domain.interval, text.general.interval
    if domain and general and domain[1] >= 0 and general[0] > 0:
        return [
            "pre-training made no held-out text easier: it learns by heart; lower "
            "pretrain.max_tokens or add texts"
        ]
    return []


def _overtraining(figures: EvaluationFigures) -> list[str]:
    """A weaker adapter gives nearly the whole gain, and the full adapter costs general ability."""
    if not figures.dial:
        return []
    rows = sorted(figures.dial.rows, key=lambda row: row.alpha_scale)
    full = rows[-1]
    enough = [
        row for row in rows if row.domain.difference >= SATURATED * full.domain.difference > 0
    ]
    if len(enough) > 1 and full.general.interval[1] < 0:
        return [
            f"scale {enough[0].alpha_scale:g} gives nearly all of the gain, full scale costs: "
            "lower sft.max_tokens"
        ]
    return []


def _drift(figures: EvaluationFigures) -> list[str]:
    """General text became harder although no loss of general items is shown."""
    text = figures.changes["adapted_vs_base"].bits_per_byte.general.interval
    moved = figures.kl_to_base or {}
    if not text or text[0] <= 0 or "pretrained" not in moved:
        return []
    early = 2 * moved["pretrained"].value >= moved["adapted"].value
    step = "pre-training" if early else "fine-tuning"
    return [
        f"general text became harder; most of the drift from the base came in {step}: "
        f"{ADVICE[step]}"
    ]


def _few_items(figures: EvaluationFigures) -> list[str]:
    """More items, in a way that keeps the level: as planned, at any look, or as a new exam."""
    few = [
        f"{name} ({test.n:,} of about {test.items_needed:,})"
        for name, test in _general(figures.changes["adapted_vs_base"]).items()
        if _state(test, test.margin) == "open"
    ]
    if not few:
        return []
    how = "ask a new, larger exam once; to add to this one, plan the looks (evaluate.looks)"
    if figures.exam.looks != 1:
        how = "add evaluation items, as evaluate.looks allows"
    return [f"{how}: {', '.join(few)}"]


@overload
def _general(change: Changes) -> dict[str, MarginTest]: ...


@overload
def _general(change: StepChange) -> dict[str, Change]: ...


def _general(change: Changes | StepChange) -> Mapping[str, Change]:
    return {"general ability": change.general, **change.categories.general}


def _state(change: Change, margin: float) -> Literal["kept", "lost", "open"]:
    """`kept`: shown to be within the margin. `lost`: shown worse, or not kept on enough items."""
    low, high = change.interval
    if low > -margin:
        return "kept"
    enough = isinstance(change, MarginTest) and change.n >= change.items_needed
    return "lost" if high < 0 or enough else "open"
