"""What to try next: sentences that follow from the figures, whatever the outcome.

docs/verdict.md states the rule behind each sentence. The thresholds are our own choice.
"""

from collections.abc import Mapping
from typing import Literal, overload

from lmadapt.verdict.figures import (
    Alarms,
    Attribution,
    BehaviourTest,
    Change,
    Changes,
    DomainTest,
    EvaluationFigures,
    MarginTest,
    SpuriousForgetting,
    StepChange,
)

SPURIOUS = 0.5  # share regained of what the reference keeps in another form, beyond guessing
SATURATED = 0.9  # share of the domain's gain that a weaker adapter already gives
LOSSLESS_STEPS = ("quantisation", "merging")  # these should change nothing
TRY_SCALES = "try whether a weaker adapter keeps more: evaluate.alpha_scale: auto"

ADVICE = {
    "pre-training": "raise pretrain.replay_fraction or lower pretrain.learning_rate",
    "quantisation": "4 bits cost the model that will be served; serve in bf16, and judge it so "
    "(evaluate.precision: bf16)",
    "fine-tuning": "raise sft.replay_fraction, lower sft.learning_rate or train MLPs only "
    "(sft.target_modules: retain)",
    "merging": "serve the adapter over the model that it was trained on instead of merging it "
    "(register.artifact: adapter)",
    "training": "train with more replay of such items, or with a lower learning rate",
}


def remedies(figures: EvaluationFigures, significance: float) -> list[str]:
    """What the evidence suggests to try; empty where there is nothing to do.

    A loss that is shown at the level `significance` is spoken of even within its margin.
    """
    change = figures.changes["adapted_vs_reference"]
    blamed = blamed_steps(figures, significance)
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
        *_unusable_answers(figures.behaviour_tests.free_answers, significance),
        *_gain(change.domain),
        *_domain_categories(change, significance),
        *spurious,
        *(losses if blamed else _drift(figures)),
        *_alarms(figures.alarms),
        *_memorising(figures),
        *_overtraining(figures),
        *_few_items(figures),
        *_not_measurable(change),
    ]


def blamed_steps(figures: EvaluationFigures, significance: float) -> dict[str, list[str]]:
    """By step: what it lost, as "general ability" and names of categories.

    A loss is blamed on the step in which it fell most, or on "training" if it fell in no known
    step. A loss in quantisation or merging is blamed on that step in any case.
    """
    steps = _steps(figures)
    blamed: dict[str, list[str]] = {}
    after_the_verdict = _steps_after_the_judged(figures.attribution)
    for name, whole in _general(figures.changes["adapted_vs_reference"]).items():
        parts = {step: changes[name] for step, changes in steps.items() if name in changes}
        guilty = {
            step
            for step, part in parts.items()
            if step in LOSSLESS_STEPS and _state(part, whole.margin) == "lost"
        }
        shown = whole.worse_p_adjusted <= significance
        if shown or _state(whole, whole.margin) == "lost":
            guilty.add(_worst_step(parts, after_the_verdict))
        for step in sorted(guilty):
            blamed.setdefault(step, []).append(name)
    return blamed


def _steps(figures: EvaluationFigures) -> dict[str, Mapping[str, Change]]:
    """By step, then by "general ability" or category: what changed.

    Without attribution, these are the stages of training, at equal precision. Where the reference
    is the base in another precision, quantisation is what lies between the two.
    """
    if figures.attribution:
        return {step.step: _general(step) for step in figures.attribution.steps}
    stages = {"pre-training": "pretrained_vs_base", "fine-tuning": "adapted_vs_pretrained"}
    if figures.judged.reference == "base":
        stages = {"quantisation": "base_vs_reference"} | stages
    return {
        step: _general(figures.changes[key])
        for step, key in stages.items()
        if key in figures.changes
    }


def _steps_after_the_judged(attribution: Attribution | None) -> set[str]:
    """The steps that show what another artifact would change: they start at the one judged."""
    steps = attribution.steps if attribution else []
    return {step.step for step in steps if step.before == "adapted"}


def _worst_step(parts: Mapping[str, Change], left_out: set[str]) -> str:
    """The step with the largest fall, of those that led to the model judged."""
    fell = {
        step: part.difference
        for step, part in parts.items()
        if step not in left_out and part.difference < 0
    }
    return min(fell, key=fell.__getitem__, default="training")


def _behaviour(lost: list[str]) -> list[str]:
    if not lost:
        return []
    return [
        f"{', '.join(lost)}: lost; replay general instructions that show it (sft.replay_fraction)"
    ]


def _unusable_answers(free: BehaviourTest | None, significance: float) -> list[str]:
    """Most answers are newly empty or loop, or that more do is shown."""
    if free is None or not free.lost:
        return []
    if free.worse_p_adjusted > significance and 2 * len(free.lost) < free.shown_before:
        return []
    return [
        f"{len(free.lost)} free answers became empty or loop: look at them in the report, see that "
        "fine-tuning teaches the end of an answer (chat template, end-of-turn token), and replay "
        "general instructions (sft.replay_fraction)"
    ]


def _domain_categories(change: Changes, significance: float) -> list[str]:
    worse = [
        name
        for name, test in change.categories.domain.items()
        if test.worse_p_adjusted <= significance
    ]
    if not worse:
        return []
    return [f"{', '.join(worse)}: the domain became worse here; add instructions of this kind"]


def _alarms(alarms: Alarms) -> list[str]:
    """Text measures that are not shown to be within their margins."""
    found = []
    if alarms.bits_per_byte and alarms.bits_per_byte.interval[1] > alarms.bits_per_byte.margin:
        found.append(
            "general text became harder: replay more text (pretrain.replay_fraction), lower "
            "pretrain.learning_rate, or add held-out text if it only may have"
        )
    if alarms.kl and alarms.kl.interval[1] > alarms.kl.margin:
        found.append(
            "the model moved far from the reference: lower the learning rates or max_tokens, or "
            "hold it (sft.kl_weight)"
        )
    return found


def _not_measurable(change: Changes) -> list[str]:
    names = [name for name, test in _general(change).items() if not test.measurable]
    if not names:
        return []
    return [
        f"{', '.join(names)}: too close to guessing to show a loss; ask easier or more items, "
        "or list a category that you do not judge (evaluate.not_measured)"
    ]


def _gain(domain: DomainTest) -> list[str]:
    low, high = domain.interval
    least = domain.min_gain
    if domain.graded and domain.graded.margin is not None:
        (low, high), least = domain.graded.interval, domain.graded.margin
    if high < 0:
        return [
            "the domain became worse: ask its instructions in the form of its items, and lower "
            "sft.learning_rate"
        ]
    if low <= least:
        return [
            "train longer on the domain (pretrain.max_tokens, sft.max_tokens), or add domain items"
        ]
    return []


def _spurious(found: SpuriousForgetting | None) -> list[str]:
    if not found or found.spurious is None or found.spurious < SPURIOUS:
        return []
    return [
        f"asked in another form, {found.spurious:.0%} of the lost items that the reference keeps "
        "in it, beyond guessing, are right again: the knowledge is kept, the habit of answering "
        "lost; replay instructions in their form (sft.replay_fraction)"
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
    text = figures.changes["adapted_vs_reference"].bits_per_byte.general.interval
    moved = figures.kl_to_reference or {}
    if not text or text[0] <= 0 or "pretrained" not in moved:
        return []
    start = moved["base"].value if "base" in moved else 0.0
    parts = {
        "pre-training": moved["pretrained"].value - start,
        "fine-tuning": moved["adapted"].value - moved["pretrained"].value,
    }
    if figures.judged.reference == "base":
        parts["quantisation"] = start
    step = max(parts, key=parts.__getitem__)
    return [
        f"general text became harder; most of the drift from the reference came in {step}: "
        f"{ADVICE[step]}"
    ]


def _few_items(figures: EvaluationFigures) -> list[str]:
    """More items, in a way that keeps the level: as planned, at any look, or as a new exam."""
    few = [
        f"{name} ({test.n:,} of about {test.items_needed:,})"
        for name, test in _general(figures.changes["adapted_vs_reference"]).items()
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
    if isinstance(change, MarginTest) and change.graded and change.graded.margin:
        (low, high), margin = change.graded.interval, change.graded.margin
    if low > -margin:
        return "kept"
    enough = isinstance(change, MarginTest) and change.n >= change.items_needed
    return "lost" if high < 0 or enough else "open"
