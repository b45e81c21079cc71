import pytest

from lmadapt.behaviour import passes
from lmadapt.errors import UserError


@pytest.mark.parametrize(
    ("check", "good", "bad"),
    [
        ('{"kind": "regex", "pattern": "^Paris"}', ["Paris is it"], ["It is Paris", ""]),
        (
            '{"kind": "number", "value": 1200}',
            ["It is 3 or 1,200.", "= 1200.0"],
            ["1200 or 7", "none", "12 00", "-1200"],
        ),
        (
            '{"kind": "sentence", "min_words": 4, "contains": "Water"}',
            ["All WATER is wet.", "Is there any water? "],
            ["Water is wet.", "All water is wet", "All rain is wet.", "water water water water is."],
        ),
        (
            '{"kind": "json_keys", "keys": ["a", "b"]}',
            ['Here: {"a": 1, "b": {"c": 2}} and {"x": 1}'],
            ['{"a": 1}', '{"a": 1, "b": 2, "c": 3}', "{a: 1, b: 2}", "none", '[{"x": 1}, {"a": 1, "b": 2}]'],
        ),
    ],
)
def test_each_kind_passes_and_fails(check: str, good: list[str], bad: list[str]) -> None:
    assert [passes(answer, check) for answer in good + bad] == [True] * len(good) + [False] * len(bad)


@pytest.mark.parametrize(
    "check",
    ["", "[]", '{"kind": "poem"}', '{"kind": "regex"}', '{"kind": "regex", "pattern": "("}', '{"kind": "number"}'],
)
def test_a_check_that_cannot_be_applied_is_an_error_that_names_it(check: str) -> None:
    with pytest.raises(UserError, match="allowed kinds: regex, number, sentence, json_keys") as error:
        passes("an answer", check)
    assert repr(check) in str(error.value)
