from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from scipy.special import ndtri

from lmadapt.core.errors import UserError
from lmadapt.verdict.alarms import Alarm, BehaviourTest, behaviour_test
from lmadapt.verdict.decision import QUESTIONS, Scored, Verdict, compare, judge
from tests.verdict.exam import BASE, BETTER, DOMAIN, changed

MARGINS: dict[str, Any] = {"margin": 0.02, "category_margin": 0.05}


def verdict(
    after: Scored,
    before: Scored = BASE,
    *,
    alarms: Sequence[Alarm] = (),
    behaviours: Sequence[BehaviourTest] = (),
    **settings: Any,
) -> Verdict:
    comparison = compare(before, after, **MARGINS, **settings, significance=0.05)
    return judge(comparison, [], significance=0.05, alarms=alarms, behaviours=behaviours)


def test_a_domain_category_that_fell_by_20_points_is_held_though_the_domain_is_better() -> None:
    found = verdict(changed(BETTER, BASE.categories == "d2", 0.33, to=0.0))
    assert found.outcome == "HOLD"
    assert found.reason.startswith("D2 (domain) became worse by")
    assert any(line.startswith("d2 (domain): -") for line in found.evidence)


def test_every_domain_category_is_among_the_evidence() -> None:
    lines = verdict(BETTER).evidence
    assert [line.split(":")[0] for line in lines[1:5]] == [f"{name} (domain)" for name in DOMAIN]


def test_the_chance_of_a_false_hold_is_shared_by_all_domain_categories() -> None:
    """One of 4 categories fell: its p-value is multiplied by 4, and by the number of questions."""
    after = changed(BETTER, BASE.categories == "d2", 0.33, to=0.0)
    test = compare(BASE, after, **MARGINS, significance=0.05).domain_categories["d2"]
    assert test.worse_p_adjusted == pytest.approx(4 * QUESTIONS * test.change.worse_p)


def bits_alarm(rise: float, half: float = 0.01) -> Alarm:
    """A rise of general bits per byte, as a share, against a margin of 5 %."""
    return Alarm(
        name="bits per byte of general text rose by",
        unit="%",
        is_loss=True,
        value=rise,
        interval=(rise - half, rise + half),
        margin=0.05,
        low_adjusted=rise - 1.5 * half,
    )


def divergence_alarm(bits: float) -> Alarm:
    return Alarm(
        name="the divergence from the reference is",
        unit="bits per token",
        is_loss=False,
        value=bits,
        interval=(bits - 0.05, bits + 0.05),
        margin=1.0,
        low_adjusted=bits - 0.08,
    )


def test_doubled_bits_per_byte_are_held() -> None:
    found = verdict(BETTER, alarms=[bits_alarm(1.0)])
    assert found.outcome == "HOLD"
    assert found.reason == (
        "Bits per byte of general text rose by 100.0 %, which is shown to be above the margin of "
        "5.0 %."
    )


def test_six_bits_of_divergence_are_held() -> None:
    found = verdict(BETTER, alarms=[divergence_alarm(6.0)])
    assert found.outcome == "HOLD"
    assert "divergence from the reference is 6.00 bits per token" in found.reason


@pytest.mark.parametrize(
    ("rise", "half", "outcome", "reservation"),
    [
        (0.0, 0.01, "SHIP", None),
        (0.03, 0.01, "SHIP", "rose by 3.0 %; within the margin"),  # a loss is shown
        (0.03, 0.03, "SHIP", "rose by 3.0 %; not shown to be within the margin"),
        (0.06, 0.01, "INCONCLUSIVE", None),
        (0.08, 0.01, "HOLD", None),
    ],
)
def test_the_margin_of_an_alarm_holds_what_is_shown_and_leaves_open_what_only_seems_above_it(
    rise: float, half: float, outcome: str, reservation: str | None
) -> None:
    found = verdict(BETTER, alarms=[bits_alarm(rise, half)])
    assert found.outcome == outcome
    assert (reservation or "") in "".join(found.reservations)
    if reservation is None:
        assert found.reservations == []


def lose(name: str, count: int, *, gained: int = 0, n: int = 20) -> BehaviourTest:
    before, after = np.ones(n, bool), np.ones(n, bool)
    before[:gained] = False
    after[gained : gained + count] = False
    return behaviour_test(name, [f"check/{number}" for number in range(n)], before, after)


def test_20_of_20_major_behaviours_lost_are_held() -> None:
    found = verdict(BETTER, behaviours=[lose("major behaviours", 20)])
    assert found.outcome == "HOLD"
    assert found.reason == "20 of 20 major behaviours were lost and 0 gained."


def test_one_of_20_major_behaviours_lost_is_a_reservation() -> None:
    found = verdict(BETTER, behaviours=[lose("major behaviours", 1)])
    assert found.outcome == "SHIP"
    assert found.reservations == [
        "1 of 20 major behaviours were lost and 0 gained, which shows no loss (check/0)"
    ]


def test_8_behaviours_without_a_gain_show_a_loss_and_7_do_not() -> None:
    held = [verdict(BETTER, behaviours=[lose("checks", n)]).outcome for n in (7, 8)]
    assert held == ["SHIP", "HOLD"]
    assert verdict(BETTER, behaviours=[lose("checks", 8, gained=3)]).outcome == "SHIP"


def test_all_of_four_behaviours_lost_are_too_few_to_hold_and_too_many_to_ship() -> None:
    found = verdict(BETTER, behaviours=[lose("major behaviours", 4, n=4)])
    assert found.outcome == "INCONCLUSIVE"
    assert "4 of 4 major behaviours were lost" in found.reason


def at_chance(model: Scored, name: str) -> Scored:
    """The model guesses one of four choices in that category."""
    guesses = np.random.default_rng(7).random(len(model.ids)) < 0.25
    return replace(model, scores=np.where(model.categories == name, guesses, model.scores))


WITH_CHANCES = replace(BASE, chances=np.full(len(BASE.ids), 0.25))
GUESSING = at_chance(WITH_CHANCES, "g3")
GUESSING_BETTER = at_chance(BETTER, "g3")


def test_a_category_at_chance_is_inconclusive_and_named_as_not_measurable() -> None:
    found = verdict(GUESSING_BETTER, GUESSING)
    assert found.outcome == "INCONCLUSIVE"
    assert found.reason.startswith("G3 is not measurable: the reference scores 2")
    assert "guessing scores 25.0 %" in found.reason
    assert any(line.startswith("g3 is not measurable") for line in found.evidence)


def test_a_category_at_chance_that_the_user_does_not_judge_ships_with_a_reservation() -> None:
    found = verdict(GUESSING_BETTER, GUESSING, not_measured=["g3"])
    assert found.outcome == "SHIP"
    assert "in each of 7 categories" in found.reason
    assert [line.split(":")[0] for line in found.reservations] == ["g3 is not measurable"]


def test_a_measurable_category_is_judged_though_it_is_listed_as_not_measured() -> None:
    after = changed(BETTER, BASE.categories == "g3", 0.2, to=0.0)
    found = verdict(after, WITH_CHANCES, not_measured=["g3"])
    assert found.outcome == "HOLD"
    assert "g3 became worse" in found.reason


def test_an_unknown_name_among_not_measured_is_refused() -> None:
    with pytest.raises(UserError, match=r"not_measured names 'g9'.*the exam has g0, g1"):
        verdict(BETTER, not_measured=["g9"])


def test_chance_adjusted_margins_are_smaller_where_guessing_scores_more() -> None:
    comparison = compare(
        WITH_CHANCES, BETTER, **MARGINS, significance=0.05, margin_scale="chance_adjusted"
    )
    assert comparison.general.margin == pytest.approx(0.02 * 0.75)
    assert comparison.categories["g0"].margin == pytest.approx(0.05 * 0.75)


def test_a_domain_gain_must_exceed_the_smallest_one_worth_shipping() -> None:
    low = compare(BASE, BETTER, **MARGINS, significance=0.05).domain.interval[0]
    assert verdict(BETTER, min_domain_gain=low - 0.001).outcome == "SHIP"
    found = verdict(BETTER, min_domain_gain=low + 0.001)
    assert found.outcome == "INCONCLUSIVE"
    assert "not shown to be better by more than" in found.reason


def test_a_shown_loss_within_its_margin_ships_with_a_reservation() -> None:
    after = changed(BETTER, BASE.groups == "general", 0.012, to=0.0)
    found = verdict(after)
    assert found.outcome == "SHIP"
    (reservation,) = found.reservations
    assert reservation.startswith("general ability became worse by 1.0 points; the loss is within")


def test_a_better_model_that_lost_nothing_ships_without_reservations() -> None:
    assert verdict(BETTER).reservations == []


def test_a_model_that_lost_nothing_is_rarely_held_by_any_of_all_questions() -> None:
    """Margins of next to nothing, behaviours and text that vary by chance: every question asked."""
    draw, runs, held = np.random.default_rng(0), 200, 0
    for run in range(runs):
        luck = draw.random((2, len(BASE.ids)))
        before, after = (
            replace(BASE, scores=(luck[side] < np.where(BASE.scores == 1, 0.9, 0.2)).astype(float))
            for side in (0, 1)
        )
        checks = [behaviour_test(n, IDS, *(draw.random((2, 40)) < 0.7)) for n in ("major", "free")]
        rise = float(draw.normal())  # in standard errors; the margin is 0
        alarm = replace(
            bits_alarm(rise), margin=1e-9, low_adjusted=rise - float(ndtri(1 - 0.05 / QUESTIONS))
        )
        tiny = {"margin": 1e-6, "category_margin": 1e-6, "significance": 0.05}
        comparison = compare(few(before, run), few(after, run), **tiny)
        found = judge(comparison, [], significance=0.05, alarms=[alarm], behaviours=checks)
        held += found.outcome == "HOLD"
    assert held / runs <= 0.085  # 5 % and the noise of 200 runs


IDS = [str(number) for number in range(40)]


def few(model: Scored, run: int) -> Scored:
    """Every fifth item, for speed."""
    keep = (np.arange(len(model.ids)) + run) % 5 == 0
    fields = {name: values[keep] for name, values in vars(model).items() if values is not None}
    return replace(model, **fields)
