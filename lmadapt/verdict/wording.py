"""Numbers and sentences of the verdict."""

from collections.abc import Sequence

from lmadapt.verdict.alarms import Alarm, BehaviourTest
from lmadapt.verdict.comparison import GradedTest, HarmTest, MarginTest
from lmadapt.verdict.statistics import PairedChange, items_needed, minimum_detectable_effect

MAX_REASONS = 3  # in the reason; the evidence holds all of them


def sentence(parts: Sequence[str]) -> str:
    """The first parts as one sentence."""
    shown = list(parts[:MAX_REASONS])
    if len(parts) > MAX_REASONS:
        shown.append(f"and {len(parts) - MAX_REASONS} more like it, among the evidence")
    text = "; ".join(shown)
    return f"{text[0].upper()}{text[1:]}."


def points(share: float, *, sign: bool = False) -> str:
    """A share of 1 in points."""
    value = share * 100
    return f"{value:+.1f} points" if sign else f"{value:.1f} points"


def percent(share: float) -> str:
    """A share of 1 in percent."""
    return f"{share * 100:.1f} %"


def in_domain(name: str) -> str:
    """A category of the domain, which may have the name of a general one."""
    return f"{name} (domain)"


def gain_line(name: str, test: HarmTest) -> str:
    """The change of the domain or of one of its categories."""
    shown = f"p = {test.change.better_p:.3g} against not better"
    return _line(name, test.change, shown, test.worse_p_adjusted) + _graded(test.graded)


def margin_line(name: str, test: MarginTest, significance: float) -> str:
    """The change of general ability or of one of its categories."""
    within = test.noninferiority_p <= significance
    outcome = "shown to be within" if within else "not shown to be within"
    shown = f"{outcome} the margin of {points(test.margin)} (p = {test.noninferiority_p:.3g})"
    return _line(name, test.change, shown, test.worse_p_adjusted) + _graded(test.graded)


def loss(test: HarmTest, significance: float) -> str:
    """How much was lost, in the score that shows it; in accuracy where both do."""
    change, unit = _showing(test, significance)
    return f"{points(-change.difference)}{unit}"


def largest_loss(test: HarmTest, significance: float) -> str:
    """How much may have been lost, in the same score."""
    change, unit = _showing(test, significance)
    return f"{points(-change.interval[0])}{unit}"


def _showing(test: HarmTest, significance: float) -> tuple[PairedChange, str]:
    if test.graded and test.worse_p_adjusted > significance:
        return test.graded.change, " of graded score"
    return test.change, ""


def _graded(test: GradedTest | None) -> str:
    """The graded score of a question, for its line of evidence."""
    if not test:
        return ""
    low, high = test.change.interval
    said = (
        f"; graded score {points(test.change.difference, sign=True)} "
        f"[{low * 100:+.1f}, {high * 100:+.1f}]"
    )
    if test.noninferiority_p is None or test.margin is None:
        said += f", p = {test.change.better_p:.3g} against not better"
    else:
        said += f", p = {test.noninferiority_p:.3g} against its margin of {points(test.margin)}"
    return f"{said}, p = {test.worse_p_adjusted:.3g} (adjusted) against not worse"


def _line(name: str, change: PairedChange, shown: str, worse_p_adjusted: float) -> str:
    low, high = change.interval
    return (
        f"{name}: {points(change.difference, sign=True)} [{low * 100:+.1f}, {high * 100:+.1f}] "
        f"on {change.n:,} items, {change.lost} lost, {change.gained} gained, {shown}, "
        f"p = {worse_p_adjusted:.3g} (adjusted) against not worse"
    )


def alarm_line(alarm: Alarm) -> str:
    """A text measure and its margin."""
    low, high = map(alarm.amount, alarm.interval)
    return (
        f"{alarm.name} {alarm.amount(alarm.value)} [{low}, {high}], margin "
        f"{alarm.amount(alarm.margin)}; at least {alarm.amount(alarm.low_adjusted)} at the level "
        "of one question"
    )


def behaviour_line(test: BehaviourTest) -> str:
    """A family of behaviours."""
    return (
        f"{test.name}: {test.shown_before} of {test.n} in the reference, {len(test.lost)} lost, "
        f"{len(test.gained)} gained, p = {test.worse_p_adjusted:.3g} (adjusted) against not worse"
    )


def domain_question(
    domain: PairedChange, graded: GradedTest | None, *, least: float, significance: float
) -> str:
    """Says that a domain gain above `least` is not shown, and how many items would show it."""
    more = f" by more than {points(least)}" if least else ""
    changed = points(domain.difference, sign=True)
    change = domain
    if graded and graded.margin is not None:
        change, least = graded.change, graded.margin
        changed += f", graded score {points(change.difference, sign=True)}"
    above = change.difference - least
    if above > 0:
        needed = items_needed(change, above, significance)
        seen = f"a true gain of this size needs about {needed:,} items, there are {domain.n:,}"
    else:
        smallest = least + minimum_detectable_effect(change, significance)
        seen = f"{domain.n:,} items show gains from {points(smallest)} upwards"
    return f"the domain is not shown to be better{more} ({changed}; {seen})"


def to_settle(test: MarginTest, significance: float, family: int) -> str:
    """How many items would show that a loss of the size seen is acceptable, or that it is harmful.

    The smaller of the two counts. `family`: how many tests share the level of "shown worse".
    """
    change, margin = test.decisive
    loss = max(0.0, -change.difference)
    needed = []
    if loss < margin:
        needed.append(items_needed(change, margin - loss, significance))
    if loss > 0:
        needed.append(items_needed(change, loss, significance / family))
    changed = points(test.change.difference, sign=True)
    if change is not test.change:
        changed += f", graded score {points(change.difference, sign=True)}"
    return (
        f"{changed} on {change.n:,} items; "
        f"about {max(min(needed), change.n + 1):,} would settle a change of that size"
    )
