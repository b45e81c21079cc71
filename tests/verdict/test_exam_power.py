import numpy as np
import pytest

from lmadapt.core.errors import UserError
from lmadapt.verdict import exam_power as planned
from lmadapt.verdict.exam_power import Assumed, ExamSettings, PlannedExam, exam_power, plan_items
from lmadapt.verdict.exam_size import Question, ask, exam_sizes, items_for, power
from lmadapt.verdict.power_figures import ExamPower

SETTINGS = ExamSettings(margin=0.02, category_margin=0.05, significance=0.05, alpha_scale=1.0)
CHURNS = (0.02, 0.05, 0.1)


def exam(domain: int, categories: list[int], cluster_size: int = 1) -> PlannedExam:
    """An exam with general categories c0, c1, …; no two categories share a cluster."""
    sizes = {"d": domain} | {f"c{number}": size for number, size in enumerate(categories)}
    names = np.repeat(list(sizes), list(sizes.values()))
    clusters = [f"{name}/{i // cluster_size}" for name, size in sizes.items() for i in range(size)]
    groups = np.where(names == "d", "domain", "general")
    return PlannedExam(groups, names, planned.numbered(clusters))


def question(items: int, cluster_size: int = 1, margin: float | None = 0.05) -> Question:
    clusters = np.arange(items) // cluster_size
    return ask(clusters, margin=margin, gain=0.05, correlation=0.1, significance=0.05)


@pytest.fixture(scope="module")
def demo_like() -> ExamPower:
    return exam_power(exam(500, [150, 400], 4), SETTINGS, Assumed(draws=100))


def test_the_formula_of_the_sizes_agrees_with_what_the_verdict_decides(
    demo_like: ExamPower,
) -> None:
    questions = planned._questions(exam(500, [150, 400], 4), SETTINGS, Assumed())
    for one in demo_like.questions:
        for seen in one.outcomes:
            formula = power(questions[one.name], one.items, seen.churn)
            assert seen.ship.low - 0.05 < formula < seen.ship.high + 0.05, (one.name, seen.churn)


def test_ship_is_less_likely_the_more_answers_change_and_hold_stays_rare(
    demo_like: ExamPower,
) -> None:
    assert [one.churn for one in demo_like.verdict] == list(CHURNS)
    ship = [one.ship.share for one in demo_like.verdict]
    assert ship == sorted(ship, reverse=True)
    assert ship[0] > ship[2] + 0.1
    for one in demo_like.verdict:
        assert one.hold.low <= 0.05
        assert one.ship.share + one.hold.share + one.inconclusive.share == pytest.approx(1)
        assert one.ship.low < one.ship.share < one.ship.high or one.ship.share in (0, 1)


def test_the_same_seed_gives_the_same_figures() -> None:
    first, second = (exam_power(exam(40, [60]), SETTINGS, Assumed(draws=20)) for _ in range(2))
    assert first == second
    assert ExamPower.model_validate_json(first.model_dump_json()) == first


def test_a_category_of_too_few_items_is_named_with_the_number_that_suffices() -> None:
    found = exam_power(exam(200, [53, 54]), SETTINGS, Assumed(draws=2))
    by_name = {one.name: one for one in found.questions}
    assert [one.name for one in found.impassable] == ["general ability", "c0"]
    assert by_name["c0"].items_to_pass_unchanged == 54
    assert by_name["c0"].impassable == (
        "53 items in 53 clusters cannot show a loss below 5 points, even if no answer changes; "
        "about 54 can"
    )
    assert by_name["c1"].impassable == ""
    assert found.undecidable == "", "a model that gains enough in it still gets SHIP"


def test_the_sizes_named_for_80_percent_ship_give_it() -> None:
    found = exam_power(exam(60, [60, 80]), SETTINGS, Assumed(draws=60), simulate_sizes=True)
    assert [one.churn for one in found.grown] == list(CHURNS)
    for grown, whole in zip(found.grown, found.verdict, strict=True):
        assert grown.ship is not None
        assert grown.ship.high > 0.8
        assert grown.ship.low > whole.ship.high
        assert whole.items_needed == sum(grown.items.values())
        assert min(grown.items["c0"], grown.items["c1"] + 1) > 80


def test_a_grown_exam_keeps_the_sizes_of_clusters_and_what_it_has_enough_of() -> None:
    small = exam(40, [40, 60], 4)
    large = planned.grow(small, {"domain": 40, "c0": 80, "c1": 60})
    assert [int(np.sum(large.categories == name)) for name in ("d", "c0", "c1")] == [40, 80, 60]
    assert set(np.unique(large.clusters, return_counts=True)[1]) == {4}


def test_an_exam_that_one_entity_decides_can_never_ship() -> None:
    even = exam(200, [200], 10)
    clusters = np.where(even.groups == "general", 20, even.clusters)
    clusters[-4:] = 21
    giant = PlannedExam(even.groups, even.categories, planned.numbered(clusters))
    assert planned.can_ship(even, SETTINGS)
    assert not planned.can_ship(giant, SETTINGS)
    found = exam_power(giant, SETTINGS, Assumed(draws=2))
    assert found.undecidable == "not even a model with every answer right gets SHIP"


def test_items_that_the_verdict_refuses_are_refused_here() -> None:
    with pytest.raises(UserError, match="'c0' has 20 items; at least 30 are needed"):
        exam_power(exam(40, [20]), SETTINGS, Assumed(draws=1))
    behaviour = [{"id": "a", "group": "behaviour", "category": "", "cluster": ""}]
    with pytest.raises(UserError, match="no items of group `domain`"):
        plan_items(behaviour, SETTINGS)


def test_changes_of_a_cluster_have_the_stated_correlation_and_shares() -> None:
    large = exam(20_000, [20_000], 2)
    draw = np.random.default_rng(0)
    before, after = planned._draw_answers(large, 0.2, 0.05, draw, 0.4)
    change = after - before
    general = change[large.groups == "general"].reshape(-1, 2)
    assert np.corrcoef(general.T)[0, 1] == pytest.approx(0.4, abs=0.03)
    assert np.mean(general == -1) == pytest.approx(0.1, abs=0.01)
    assert np.mean(general) == pytest.approx(0, abs=0.01)
    assert np.mean(change[large.groups == "domain"]) == pytest.approx(0.05, abs=0.01)
    assert set(np.unique(before)) == set(np.unique(after)) == {0.0, 1.0}


def test_a_scale_chosen_on_half_of_the_items_leaves_the_other_half() -> None:
    rows = [
        {"id": str(i), "group": group, "category": group, "cluster": f"{group} {i // 2}"}
        for group in ("domain", "general")
        for i in range(40)
    ]
    halved = plan_items(rows, SETTINGS.model_copy(update={"alpha_scale": "auto"}))
    assert len(plan_items(rows, SETTINGS).groups) == 80
    assert len(halved.groups) == 40
    assert len(np.unique(halved.clusters)) == 20


def test_an_item_without_an_entity_is_a_cluster_of_its_own() -> None:
    rows = [
        {"id": str(i), "group": group, "category": "", "cluster": ""}
        for group in ("domain", "general")
        for i in range(3)
    ]
    rows = [row | {"id": f"{row['group']}{row['id']}"} for row in rows]
    assert len(np.unique(plan_items(rows, SETTINGS).clusters)) == 6


def test_larger_clusters_need_more_items() -> None:
    single, clustered = (items_for(question(300, size), 0.05, 0.8) for size in (1, 10))
    assert single is not None
    assert clustered is not None
    assert clustered > 1.5 * single


def test_a_number_over_ten_million_is_none() -> None:
    assert items_for(question(300, margin=1e-6), 0.1, 0.8) is None
    questions = {
        "domain": question(300, margin=None),
        "general ability": question(300, margin=1e-6),
        "c0": question(300),
    }
    assert exam_sizes(questions, 0.1, 0.8) == {}
