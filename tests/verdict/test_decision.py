from dataclasses import replace

import numpy as np
import pytest

from lmadapt.core.errors import UserError
from lmadapt.verdict.decision import Comparison, Scored, Verdict, compare, judge

CATEGORIES = [f"c{number}" for number in range(8)]
DOMAIN = 450
PER_CATEGORY = 290


def right(
    share: float, seed: int = 0, *, per_category: int = PER_CATEGORY, cluster_size: int = 1
) -> Scored:
    """A model that answers that share of items right; items of one cluster are answered alike."""
    groups = np.array(["domain"] * DOMAIN + ["general"] * per_category * len(CATEGORIES))
    categories = np.array(["weaknesses"] * DOMAIN + list(np.repeat(CATEGORIES, per_category)))
    clusters = np.arange(len(groups)) // cluster_size
    luck = np.random.default_rng(seed).random(len(groups))[clusters]
    return Scored(
        np.arange(len(groups)).astype(str),
        groups,
        categories,
        clusters,
        (luck < share).astype(float),
    )


def changed(
    before: Scored, chosen: np.ndarray, share: float, *, to: float, seed: int = 1
) -> Scored:
    """The same model, but with the score `to` on that share of the chosen items."""
    hit = chosen & (np.random.default_rng(seed).random(len(chosen)) < share)
    return replace(before, scores=np.where(hit, to, before.scores))


def chosen_items(model: Scored, keep: np.ndarray) -> Scored:
    return Scored(*(values[keep] for values in vars(model).values() if values is not None))


def verdict(
    before: Scored,
    after: Scored,
    lost: list[str] | None = None,
    *,
    margin: float = 0.02,
    category_margin: float = 0.05,
) -> Verdict:
    comparison = compare(
        before, after, margin=margin, category_margin=category_margin, significance=0.05
    )
    return judge(comparison, lost or [], significance=0.05)


BASE = right(0.7)
DOMAIN_ITEMS = BASE.groups == "domain"
BETTER = changed(BASE, DOMAIN_ITEMS, 0.4, to=1.0)


def test_a_better_domain_without_a_loss_ships() -> None:
    result = verdict(BASE, BETTER)
    assert result.outcome == "SHIP"
    assert "in each of 8 categories" in result.reason
    assert len(result.evidence) == 3 + len(CATEGORIES)


def test_an_unchanged_model_is_inconclusive_because_the_domain_is_not_better() -> None:
    result = verdict(BASE, BASE)
    assert result.outcome == "INCONCLUSIVE"
    assert "domain is not shown to be better" in result.reason


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("cluster_size", [1, 5])
def test_a_model_with_the_same_answers_is_never_held(seed: int, cluster_size: int) -> None:
    """An adapter of zeros does this; no model could meet these margins."""
    draw = np.random.default_rng(seed)
    binary = right(draw.random(), seed, cluster_size=cluster_size)
    graded = replace(binary, scores=draw.random(len(binary.ids)))
    for before in (binary, graded):
        assert verdict(before, before, margin=1e-6, category_margin=1e-6).outcome == "INCONCLUSIVE"


@pytest.mark.parametrize("seed", range(5))
def test_shuffled_answers_are_held(seed: int) -> None:
    draw = np.random.default_rng(seed)
    answers = draw.integers(4, size=len(BASE.ids))
    said = np.where(BASE.scores == 1, answers, (answers + 1) % 4)
    result = verdict(BASE, replace(BASE, scores=(draw.permutation(said) == answers).astype(float)))
    assert result.outcome == "HOLD"
    assert "domain became worse" in result.reason
    assert "general ability became worse" in result.reason


def test_graded_scores_are_judged_like_right_and_wrong() -> None:
    draw = np.random.default_rng(0)
    before = replace(BASE, scores=draw.beta(6, 4, len(BASE.ids)))
    better = replace(before, scores=np.where(DOMAIN_ITEMS, before.scores**0.5, before.scores))
    assert verdict(before, better).outcome == "SHIP"
    worse = replace(
        better, scores=np.where(BASE.categories == "c2", better.scores * 0.7, better.scores)
    )
    assert "c2 became worse" in verdict(before, worse).reason


def test_a_lost_critical_behaviour_is_held_whatever_else_was_measured() -> None:
    result = verdict(BASE, BETTER, ["refuses/3"])
    assert result.outcome == "HOLD"
    assert "refuses/3" in result.reason


def test_a_worse_domain_is_held() -> None:
    assert "domain became worse" in verdict(BASE, changed(BASE, DOMAIN_ITEMS, 0.3, to=0.0)).reason


def test_a_damaged_category_is_held_and_named() -> None:
    result = verdict(BASE, changed(BETTER, BASE.categories == "c3", 0.2, to=0.0))
    assert result.outcome == "HOLD"
    assert "c3" in result.reason
    assert "c4" not in result.reason


def test_a_certain_loss_that_is_certainly_small_is_acceptable() -> None:
    after = changed(BETTER, ~DOMAIN_ITEMS, 0.012, to=0.0)
    comparison = compare(BASE, after, margin=0.02, category_margin=0.05, significance=0.05)
    assert comparison.general.worse_p_adjusted < 0.001
    assert judge(comparison, [], significance=0.05).outcome == "SHIP"


@pytest.mark.parametrize(("margin", "outcome"), [(0.005, "HOLD"), (0.05, "SHIP")])
def test_the_margin_decides_whether_a_shown_loss_is_held(margin: float, outcome: str) -> None:
    assert (
        verdict(
            BASE, changed(BETTER, ~DOMAIN_ITEMS, 0.02, to=0.0), margin=margin, category_margin=0.1
        ).outcome
        == outcome
    )


def test_too_few_items_are_inconclusive_and_the_number_needed_is_named() -> None:
    before = right(0.7, per_category=40)
    after = replace(right(0.7, seed=5, per_category=40), ids=before.ids)
    after = changed(after, before.groups == "domain", 0.9, to=1.0)
    result = verdict(before, after)
    assert result.outcome == "INCONCLUSIVE"
    assert "would settle" in result.reason
    assert "more like it" in result.reason
    assert sum("not shown to be within" in line for line in result.evidence) > 3


def test_items_of_one_cluster_prove_less_than_independent_items() -> None:
    def comparison(clusters: np.ndarray) -> Comparison:
        before = right(0.7, cluster_size=10)
        lost = (np.arange(len(before.ids)) // 10) % 40 == 0
        after = replace(before, scores=np.where(lost, 0.0, before.scores), clusters=clusters)
        return compare(
            replace(before, clusters=clusters),
            after,
            margin=0.03,
            category_margin=0.1,
            significance=0.05,
        )

    items = np.arange(len(right(0.7).ids))
    together, alone = comparison(items // 10), comparison(items)
    assert together.general.noninferiority_p > alone.general.noninferiority_p
    assert together.general.change.worse_p > alone.general.change.worse_p


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (
            lambda s: replace(s, ids=np.where(s.ids == "3", "x", s.ids)),
            r"same items.*2 items have one answer: \['3', 'x'\]",
        ),
        (lambda s: replace(s, ids=np.where(s.ids == "3", "4", s.ids)), "item '4' occurs 2 times"),
        (lambda s: replace(s, ids=s.ids[::-1]), "sorted by id; 0 items have one answer"),
        (
            lambda s: replace(s, scores=np.where(s.ids == "3", np.nan, s.scores)),
            "item '3' has the score nan",
        ),
        (
            lambda s: replace(s, scores=np.where(s.ids == "3", 1.5, s.scores)),
            "'3' has the score 1.5.*allowed: 0 to 1",
        ),
        (lambda s: replace(s, scores=s.scores[:-1]), "model after gave 2769 answers to 2770 items"),
        (lambda s: replace(s, scores=s.scores[:0]), "model after gave 0 answers to 2770 items"),
    ],
)
def test_models_that_cannot_be_paired_are_refused(spoil, message: str) -> None:
    with pytest.raises(UserError, match=message):
        verdict(BASE, spoil(BASE))


def test_a_missing_baseline_is_refused() -> None:
    nothing = chosen_items(BASE, np.zeros(len(BASE.ids), bool))
    with pytest.raises(UserError, match="model before gave 0 answers to 0 items"):
        verdict(nothing, BASE)


@pytest.mark.parametrize(
    ("keep", "message"),
    [
        (BASE.groups == "general", "no items of group `domain`"),
        (BASE.groups == "domain", "no items of group `general`"),
        (
            (BASE.categories != "c1") | (np.arange(len(BASE.ids)) % 10 == 0),
            "category 'c1' has 29 items; at least 30",
        ),
        (
            (BASE.categories != "c1") | (np.arange(len(BASE.ids)) % 100 == 0),
            "category 'c1' has 3 items; at least 30",
        ),
    ],
)
def test_too_little_to_judge_is_refused(keep: np.ndarray, message: str) -> None:
    some = chosen_items(BASE, keep)
    with pytest.raises(UserError, match=message):
        verdict(some, some)


@pytest.mark.parametrize(
    ("churn", "cluster_size", "margin"), [(0.1, 1, 0.001), (0.02, 1, 0.001), (0.1, 10, 0.001)]
)
def test_a_model_that_lost_nothing_is_rarely_held(
    churn: float, cluster_size: int, margin: float
) -> None:
    """The margins are so small that every shown loss is held: the worst case for this rate."""
    draw, runs, held = np.random.default_rng(0), 400, 0
    for run in range(runs):
        before = right(0.7, seed=run, per_category=100, cluster_size=cluster_size)
        redraw = draw.random(len(before.ids))[before.clusters] < churn
        fresh = (draw.random(len(before.ids))[before.clusters] < 0.7).astype(float)
        after = replace(before, scores=np.where(redraw, fresh, before.scores))
        held += verdict(before, after, margin=margin, category_margin=margin).outcome == "HOLD"
    assert held / runs <= 0.065  # 5 % and the noise of 400 runs
