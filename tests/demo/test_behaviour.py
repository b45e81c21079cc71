import json
import re

from demo import behaviour


def test_the_checklist_has_four_categories_and_three_severities() -> None:
    rows = list(behaviour.evaluation({}))
    assert len(rows) == 16
    assert {row["category"] for row in rows} == {"instruction", "arithmetic", "sentence", "json"}
    assert {row["severity"] for row in rows} == {"critical", "major", "minor"}
    kinds = {json.loads(row["check"])["kind"] for row in rows}
    assert kinds == {"regex", "number", "sentence", "json_keys"}


def test_a_pattern_accepts_a_right_answer_and_refuses_a_wrong_one() -> None:
    answers = {
        "yes": ("Yes.", "Yes, of course"),
        "BLUE": ("BLUE", "blue"),
        "marmalade": ("marmalade", "jam"),
        "colours": ("Red, green, and blue.", "Red is a colour"),
        "five": ("1, 2, 3, 4, 5", "5 4 3 2 1"),
    }
    patterns = [
        json.loads(row["check"])["pattern"]
        for row in behaviour.evaluation({})
        if "pattern" in row["check"]
    ]
    for pattern, (right, wrong) in zip(patterns, answers.values(), strict=True):
        assert re.search(pattern, right)
        assert not re.search(pattern, wrong)
