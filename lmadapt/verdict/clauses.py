"""What speaks against a model, as clauses: harms, open questions, reservations, the evidence."""

from collections.abc import Sequence
from dataclasses import dataclass

from lmadapt.verdict.alarms import Alarm, BehaviourTest
from lmadapt.verdict.comparison import QUESTIONS, Comparison, HarmTest, MarginTest
from lmadapt.verdict.wording import (
    alarm_line,
    behaviour_line,
    domain_question,
    gain_line,
    in_domain,
    largest_loss,
    loss,
    margin_line,
    percent,
    points,
    to_settle,
)

MAX_NAMED = 3  # lost behaviours in a clause


@dataclass(frozen=True)
class Findings:
    """Everything that is judged, and the level."""

    comparison: Comparison
    critical_lost: Sequence[str]
    alarms: Sequence[Alarm]
    behaviours: Sequence[BehaviourTest]
    significance: float

    @property
    def domain(self) -> dict[str, HarmTest]:
        """The domain and its categories."""
        compared = self.comparison
        whole = HarmTest(compared.domain, compared.domain_worse_p_adjusted, compared.domain_graded)
        categories = compared.domain_categories.items()
        return {"the domain": whole, **{in_domain(name): test for name, test in categories}}

    @property
    def general(self) -> dict[str, MarginTest]:
        """General ability and its categories."""
        return {"general ability": self.comparison.general, **self.comparison.categories}


def harms(found: Findings) -> list[str]:
    """What is shown to be worse."""
    level = found.significance
    clauses = [f"the critical behaviour {name} was lost" for name in found.critical_lost]
    clauses += [
        f"{len(test.lost)} of {test.n} {test.name} were lost and {len(test.gained)} gained"
        for test in found.behaviours
        if test.harmful(level)
    ]
    clauses += [
        f"{name} became worse by {loss(test, level)}"
        for name, test in found.domain.items()
        if test.shown_worse(level)
    ]
    clauses += [
        f"{name} became worse by {loss(test, level)}, and the loss may reach "
        f"{largest_loss(test, level)}"
        for name, test in found.general.items()
        if test.harmful(level)
    ]
    clauses += [
        f"{alarm.name} {alarm.amount(alarm.value)}, which is shown to be above the margin of "
        f"{alarm.amount(alarm.margin)}"
        for alarm in found.alarms
        if alarm.harmful()
    ]
    return clauses


def open_questions(found: Findings) -> list[str]:
    """What is not shown to be good enough to ship."""
    level, compared = found.significance, found.comparison
    clauses = []
    if compared.domain_gain_p > level:
        graded, least = compared.domain_graded, compared.min_domain_gain
        clauses.append(domain_question(compared.domain, graded, least=least, significance=level))
    for name, test in found.general.items():
        if not test.measurable:
            if name not in compared.not_measured:
                clauses.append(_not_measurable(name, test))
        elif not test.within_margin(level):
            tests = 1 if test is compared.general else len(compared.categories)
            family = QUESTIONS * tests * (2 if test.graded else 1)
            clauses.append(
                f"{name} is not shown to have lost less than {points(test.margin)} "
                f"({to_settle(test, level, family)})"
            )
    clauses += [
        f"{len(test.lost)} of {test.n} {test.name} were lost ({_named(test.lost)}), too few to "
        "show a loss"
        for test in found.behaviours
        if test.doubtful(level)
    ]
    clauses += [
        f"{alarm.name} {alarm.amount(alarm.value)}, above the margin of "
        f"{alarm.amount(alarm.margin)}, but more held-out text is needed to show it"
        for alarm in found.alarms
        if alarm.doubtful()
    ]
    return clauses


def reservations(found: Findings) -> list[str]:
    """What a reader must know before shipping: losses that are accepted, and gaps of the exam."""
    level, compared = found.significance, found.comparison
    clauses = [
        f"{name} became worse by {loss(test, level)}; the loss is within the margin of "
        f"{points(test.margin)}"
        for name, test in found.general.items()
        if test.shown_worse(level) and test.acceptable(level)
    ]
    clauses += [
        _not_measurable(name, test)
        for name, test in compared.categories.items()
        if not test.measurable and name in compared.not_measured
    ]
    clauses += [
        f"{len(test.lost)} of {test.n} {test.name} were lost and {len(test.gained)} gained, which "
        f"shows no loss ({_named(test.lost)})"
        for test in found.behaviours
        if test.lost and not test.harmful(level) and not test.doubtful(level)
    ]
    clauses += [
        f"{alarm.name} {alarm.amount(alarm.value)}; {_within(alarm)} the margin of "
        f"{alarm.amount(alarm.margin)}"
        for alarm in found.alarms
        if alarm.open() or alarm.accepted_loss()
    ]
    return clauses


def evidence(found: Findings) -> list[str]:
    """One line for each question, and one for each critical behaviour that was lost."""
    level = found.significance
    return [
        *(gain_line(name.removeprefix("the "), test) for name, test in found.domain.items()),
        *(margin_line(name, test, level) for name, test in found.general.items()),
        *(
            _not_measurable(name, test)
            for name, test in found.general.items()
            if not test.measurable
        ),
        *map(alarm_line, found.alarms),
        *map(behaviour_line, found.behaviours),
        *(f"critical behaviour lost: {name}" for name in found.critical_lost),
    ]


def _not_measurable(name: str, test: MarginTest) -> str:
    return (
        f"{name} is not measurable: the reference scores {percent(test.reference)} (at least "
        f"{percent(test.reference_low)}) where guessing scores {percent(test.chance)}, so it "
        f"cannot be seen to lose {points(test.margin)}"
    )


def _within(alarm: Alarm) -> str:
    return "not shown to be within" if alarm.open() else "within"


def _named(ids: Sequence[str]) -> str:
    more = [f"and {len(ids) - MAX_NAMED} more"] if len(ids) > MAX_NAMED else []
    return ", ".join([*ids[:MAX_NAMED], *more])
