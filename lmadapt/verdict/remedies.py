"""What to try when a model may not be shipped: sentences drawn from the figures of metrics/evaluate.json."""

from collections.abc import Iterator
from typing import Any

SPURIOUS = 0.5  # share of the lost items that come back in another form, guessing taken off
SATURATED = 0.9  # share of the domain's gain that a weaker adapter gives: the rest of the training bought little
DIAL = "try whether a weaker adapter keeps more: evaluate.alpha_scale: auto"
HARMFUL = ("quantisation", "merging")  # steps that are to change nothing

Figures = dict[str, Any]

ADVICE = {
    "pre-training": "raise pretrain.replay_fraction or lower pretrain.learning_rate",
    "quantisation": "4 bits cost every model compared; serve in bf16, and judge it so (evaluate.precision: bf16)",
    "fine-tuning": "raise sft.replay_fraction, lower sft.learning_rate or train MLPs only (sft.target_modules: retain)",
    "merging": "serve the adapter over the quantised model that it was trained on instead of merging it",
    "training": "train with more replay of such items, or with a lower learning rate",
}


def remedies(figures: Figures) -> list[str]:
    """What the evidence suggests to try; empty for SHIP. `figures`: what `lmadapt.evaluation.figures.summarise` gives.

    docs/verdict.md states the rule behind each sentence; the thresholds are ours.
    """
    if figures["verdict"]["outcome"] == "SHIP":
        return []
    change = figures["changes"]["adapted_vs_base"]
    blamed = _blamed(figures)
    if spurious := list(_spurious(figures["triage"])) if blamed else []:
        blamed.pop("fine-tuning", None)
    found = [
        f"{', '.join(names)}: lost most in {step}; {ADVICE[step]}" for step, names in blamed.items()
    ]
    found += [DIAL] if "fine-tuning" in blamed and not figures["dial"] else []
    found += [] if blamed else _drift(figures)
    return [
        *_gain(change["domain"], figures),
        *spurious,
        *found,
        *_overtraining(figures),
        *_few_items(change),
    ]


def _gain(domain: Figures, figures: Figures) -> Iterator[str]:
    if lost := figures["behaviour"]["lost"]:
        yield f"{', '.join(lost)}: lost; replay general instructions that show it (sft.replay_fraction)"
    if domain["interval"][1] < 0:
        yield "the domain became worse: ask its instructions in the form of its items, and lower sft.learning_rate"
    elif domain["interval"][0] <= 0:
        yield "train longer on the domain (pretrain.max_tokens, sft.max_tokens), or add domain items"


def _blamed(figures: Figures) -> dict[str, list[str]]:
    """What was lost, by the step of training or quantisation at which it fell most; and what merging alone cost."""
    steps = {
        step["step"]: _general(step) for step in (figures["attribution"] or {"steps": []})["steps"]
    }
    for step, key in (
        ("pre-training", "pretrained_vs_base"),
        ("fine-tuning", "adapted_vs_pretrained"),
    ):
        if not figures["attribution"] and key in figures["changes"]:
            steps[step] = _general(figures["changes"][key])
    blamed: dict[str, list[str]] = {}
    for name, whole in _general(figures["changes"]["adapted_vs_base"]).items():
        parts = {step: changes[name] for step, changes in steps.items() if name in changes}
        guilty = {
            step
            for step in parts
            if step in HARMFUL and _state(parts[step], whole["margin"]) == "lost"
        }
        if _state(whole, whole["margin"]) == "lost":
            fell = {step: part["difference"] for step, part in parts.items() if step != "merging"}
            guilty.add(
                min(
                    (step for step in fell if fell[step] < 0),
                    key=fell.__getitem__,
                    default="training",
                )
            )
        for step in sorted(guilty):
            blamed.setdefault(step, []).append(name)
    return blamed


def _spurious(triage: Figures | None) -> Iterator[str]:
    if triage and triage["spurious"] >= SPURIOUS:
        yield (
            f"{triage['spurious']:.0%} of the lost items, beyond guessing, are right when asked in another form: the "
            "knowledge is kept, the habit of answering lost; replay instructions in their form (sft.replay_fraction)"
        )


def _overtraining(figures: Figures) -> Iterator[str]:
    text = figures["changes"].get("pretrained_vs_base", {}).get("bits_per_byte", {})
    domain, general = (text.get(group, {}).get("interval") for group in ("domain", "general"))
    if domain and general and domain[1] >= 0 and general[0] > 0:
        yield "pre-training made no held-out text easier: it learns by heart; lower pretrain.max_tokens or add texts"
    rows = sorted(
        (figures["dial"] or {"rows": []})["rows"], key=lambda row: float(row["alpha_scale"])
    )
    enough = [
        row
        for row in rows
        if row["domain"]["difference"] >= SATURATED * rows[-1]["domain"]["difference"] > 0
    ]
    if len(enough) > 1 and rows[-1]["general"]["interval"][1] < 0:
        yield f"scale {enough[0]['alpha_scale']:g} gives nearly all of the gain, full scale costs: lower sft.max_tokens"


def _drift(figures: Figures) -> Iterator[str]:
    text = figures["changes"]["adapted_vs_base"]["bits_per_byte"]["general"]["interval"]
    if text and text[0] > 0 and "pretrained" in (moved := figures["kl_to_base"] or {}):
        step = (
            "pre-training"
            if 2 * moved["pretrained"]["value"] >= moved["adapted"]["value"]
            else "fine-tuning"
        )
        yield f"general text became harder; most of the drift from the base came in {step}: {ADVICE[step]}"


def _few_items(change: Figures) -> Iterator[str]:
    tests = {
        name: test
        for name, test in _general(change).items()
        if _state(test, test["margin"]) == "open"
    }
    if few := [
        f"{name} ({test['n']:,} of about {test['items_needed']:,})" for name, test in tests.items()
    ]:
        yield f"add evaluation items or accept wider margins: {', '.join(few)}"


def _general(change: Figures) -> Figures:
    return {"general ability": change["general"], **change["categories"]["general"]}


def _state(change: Figures, margin: float) -> str:
    """`kept`: shown to be within the margin; else `lost` if shown worse, or not kept on enough items; else `open`."""
    low, high = change["interval"]
    return (
        "kept"
        if low > -margin
        else "lost"
        if high < 0 or change["n"] >= change.get("items_needed", 1e9)
        else "open"
    )
