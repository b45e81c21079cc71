import pytest

from lmadapt.core.errors import UserError
from lmadapt.curation.decisions import (
    RowDecision,
    decision_records,
    require_sound,
    unreadable_rows,
)


def row(name: str, role: str = "corpus") -> RowDecision:
    return RowDecision(role, "tests", f"at {name}", name)


def test_a_chain_of_duplicates_names_the_row_that_is_kept() -> None:
    kept, second, third = (row(name) for name in "abc")
    third.drop("exact_duplicate", "", second)
    second.drop("near_duplicate", "", kept)
    assert [record["duplicate_of"] for record in decision_records([kept, second, third])] == [
        "",
        "a",
        "a",
    ]


def test_a_dropped_row_that_was_edited_is_dropped() -> None:
    edited = row("a")
    edited.edit("mojibake", "x")
    edited.drop("leak", "y")
    assert (edited.outcome, edited.rule, edited.evidence) == ("dropped", "leak", "y")


def test_several_edits_keep_the_first_rule_and_all_evidence() -> None:
    edited = row("a")
    edited.edit("mojibake", "x")
    edited.edit("personal_data", "y")
    assert (edited.outcome, edited.rule, edited.evidence) == ("edited", "mojibake", "x; y")


def test_too_many_bad_records_stop_curation_and_three_are_listed() -> None:
    problems = [f"f.jsonl:{n}: no JSON" for n in range(4)]
    bad = [
        {"role": "corpus", "source": "f", "location": str(n), "id": f"f/{n}", "problem": p}
        for n, p in enumerate(problems)
    ]
    rows = [row(str(n)) for n in range(4)] + unreadable_rows(bad)
    require_sound(rows, 0.5)
    with pytest.raises(
        UserError,
        match=r"corpus: 4 of 8 records cannot be read.*0\.4:(\n- f\.jsonl:\d: no JSON){3}$",
    ):
        require_sound(rows, 0.4)
