"""What a version is judged under: fixed exams, the champion's margins, and the anchor."""

from pathlib import Path
from typing import Any

import mlflow
import pytest

from lmadapt.core.errors import UserError
from lmadapt.registry.anchor import anchor_of, set_anchor
from lmadapt.registry.fixed_exam import fix_exam, fixed_exam
from lmadapt.registry.margins import differing, looser, stricter
from lmadapt.registry.promotion import promote, roll_back
from lmadapt.registry.versions import read_lineage
from tests.adapted import EXAM
from tests.registry.registered import MARGINS, champion, client, empty_registry, make_version

__all__ = ["client", "empty_registry"]  # fixtures
WIDE = {"margin": 0.05, "category_margin": 0.05}


def release(client: mlflow.MlflowClient, folder: Path, number: int, **changes: Any) -> Any:
    """Each release answers 5 more domain items right, and 3 of 200 general items fewer."""
    wrong = {"domain_wrong": 50 - 5 * number, "general_wrong": 10 + 3 * number}
    return make_version(client, folder, number, settings=WIDE, **(wrong | changes))


def test_ten_accepted_losses_do_not_add_up(client: mlflow.MlflowClient, tmp_path: Path) -> None:
    refusals = [promote(client, release(client, tmp_path, number)).refusal for number in range(5)]
    assert refusals[:2] == ["", ""]  # each loses 1.5 points against the champion before it
    refused = next(refusal for refusal in refusals if refusal)
    assert "against version 1, the anchor, losses over releases add up" in refused
    assert "not shown to be within the margin of 5.0" in refused
    # The champion's true loss against the first one is within the margin.
    assert champion(client) <= 3


def test_without_the_anchor_each_of_these_losses_would_be_accepted(
    client: mlflow.MlflowClient, tmp_path: Path
) -> None:
    for number in range(4):
        version = release(client, tmp_path, number)
        assert promote(client, version).refusal == ""
        set_anchor(client, version, "a test")
    assert champion(client) == 4


def test_the_first_champion_is_the_anchor_until_another_is_chosen(
    client: mlflow.MlflowClient, tmp_path: Path
) -> None:
    first, second, third = (
        make_version(client, tmp_path, number, domain_wrong=40 - 10 * number) for number in range(3)
    )
    assert anchor_of(client, "tiny") is None
    promote(client, first)
    promote(client, second)
    roll_back(client, "tiny", "a drill")
    promote(client, second, reason="the drill is over")
    client.delete_registered_model_tag("tiny", "anchor")  # as an earlier release left it
    promote(client, third)
    assert anchor_of(client, "tiny").version == first.version  # type: ignore[union-attr]
    set_anchor(client, second, "a new base model")
    assert anchor_of(client, "tiny").version == second.version  # type: ignore[union-attr]
    client.delete_model_version("tiny", second.version)
    with pytest.raises(UserError, match=r"version 2, the anchor .* was deleted"):
        anchor_of(client, "tiny")


def test_only_a_verified_version_can_be_the_anchor(
    client: mlflow.MlflowClient, tmp_path: Path
) -> None:
    version = make_version(client, tmp_path, 1)
    client.set_model_version_tag("tiny", version.version, "status", "broken")
    with pytest.raises(UserError, match="is not verified"):
        set_anchor(client, client.get_model_version("tiny", version.version), "a test")


def test_looser_margins_than_the_champions_are_refused_unless_forced(
    client: mlflow.MlflowClient, tmp_path: Path
) -> None:
    promote(client, make_version(client, tmp_path, 1, domain_wrong=30))
    loose = make_version(client, tmp_path, 2, domain_wrong=0, settings={"margin": 0.2})
    refusal = promote(client, loose).refusal
    assert refusal == (
        "it was judged under looser margins than version 1, the champion: margin 0.2 instead of "
        "0.02"
    )
    assert promote(client, loose, reason="the board agreed").refusal == ""


def test_the_stricter_margins_of_the_two_decide(
    client: mlflow.MlflowClient, tmp_path: Path
) -> None:
    promote(client, make_version(client, tmp_path, 1, domain_wrong=30, settings=WIDE))
    losing = {"domain_wrong": 0, "general_wrong": 14}  # 2 points fewer than the champion
    strict = make_version(client, tmp_path, 2, settings=MARGINS, **losing)
    assert "general ability" in promote(client, strict).refusal.lower()
    assert promote(client, make_version(client, tmp_path, 3, settings=WIDE, **losing)).refusal == ""


def test_margins_are_compared_by_what_they_let_pass() -> None:
    one = {"margin": 0.02, "bits_per_byte_margin": None, "domain_gain": 0.01, "significance": 0.05}
    other = {"margin": 0.01, "bits_per_byte_margin": 0.1, "domain_gain": 0.02, "significance": 0.1}
    assert looser(one, other) == [
        "margin 0.02 instead of 0.01",
        "bits_per_byte_margin none instead of 0.1",
        "domain_gain 0.01 instead of 0.02",
    ]
    assert looser(other, one) == ["significance 0.1 instead of 0.05"]
    assert stricter(one, other) == {**other, "significance": 0.05}
    assert differing(one, one) == []


def test_a_version_judged_otherwise_than_was_fixed_is_refused_with_both_names(
    client: mlflow.MlflowClient, tmp_path: Path
) -> None:
    fix_exam(client, "tiny", "e" * 64, MARGINS)
    fits = {"lineage": {"exam": EXAM}, "domain_wrong": 0}
    other_exam = fits | {"lineage": {"exam": EXAM | {"sha256": "d" * 64}}}
    refused = [
        promote(client, make_version(client, tmp_path, 1, settings=WIDE, **fits)).refusal,
        promote(client, make_version(client, tmp_path, 2, **other_exam)).refusal,
        promote(client, make_version(client, tmp_path, 3)).refusal,
    ]
    start = "it was not judged as `lmadapt exam fix` says: "
    assert refused == [
        f"{start}margin 0.05 instead of 0.02",
        f"{start}exam {'d' * 16}… instead of {'e' * 16}…",
        f"{start}exam not recorded instead of {'e' * 16}…",
    ]
    version = make_version(client, tmp_path, 4, **fits)
    assert promote(client, version).refusal == ""
    assert read_lineage(client, version).exam is not None


def test_what_is_fixed_changes_only_with_a_reason(client: mlflow.MlflowClient) -> None:
    first = fix_exam(client, "tiny", "e" * 64, MARGINS)
    assert fix_exam(client, "tiny", "e" * 64, MARGINS) == first == fixed_exam(client, "tiny")
    with pytest.raises(UserError, match=r"fixed since .*: margin 0.05 instead of 0.02; allowed"):
        fix_exam(client, "tiny", "e" * 64, MARGINS | {"margin": 0.05})
    second = fix_exam(client, "tiny", "d" * 64, MARGINS, "the exam has grown")
    assert fixed_exam(client, "tiny") == second
    assert "e" * 64 in client.get_registered_model("tiny").tags["exam_fixed_before"]
