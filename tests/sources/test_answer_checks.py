import json

import pytest

from lmadapt.core.errors import UserError
from lmadapt.sources.answer_checks import named_label, score_answer


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
            [
                "Water is wet.",
                "All water is wet",
                "All rain is wet.",
                "water water water water is.",
            ],
        ),
        (
            '{"kind": "json_keys", "keys": ["a", "b"]}',
            ['Here: {"a": 1, "b": {"c": 2}} and {"x": 1}'],
            [
                '{"a": 1}',
                '{"a": 1, "b": 2, "c": 3}',
                "{a: 1, b: 2}",
                "none",
                '[{"x": 1}, {"a": 1, "b": 2}]',
            ],
        ),
        (
            '{"kind": "exact", "value": "The Café-au-lait"}',
            ["café au lait", " THE  cafe\u0301 au lait. "],
            ["cafe au lait", "a café", ""],
        ),
        ('{"kind": "exact", "value": ["six", 6]}', ["Six.", "6"], ["66", "six six"]),
        (
            '{"kind": "contains_all", "values": ["TLS", "certificate"]}',
            ["A tls Certificate"],
            ["a certificate", ""],
        ),
        (
            '{"kind": "json_schema", "schema": '
            '{"required": ["n"], "properties": {"n": {"minimum": 2}}}}',
            ['{"n": 2}', 'so: {"n": 3, "m": 1}!'],
            ['{"n": 1}', '{"m": 3}', "n = 3", ""],
        ),
        (
            '{"kind": "label", "value": "spam", "labels": ["spam", "no spam", "ham"]}',
            ["Spam", "spam, not ham", "It is spam."],
            ["ham, not spam", "no spam", "spammer", ""],
        ),
        (
            '{"kind": "rouge_l", "references": ["the cat sat", "x"]}',
            ["The cat sat."],
            ["dogs bark", ""],
        ),
        ('{"kind": "chrf", "references": ["the cat sat"]}', ["the cat sat"], [""]),
        ('{"kind": "bleu", "references": ["the cat sat down"]}', ["the cat sat down"], [""]),
    ],
)
def test_each_kind_passes_and_fails(check: str, good: list[str], bad: list[str]) -> None:
    assert [score_answer(answer, check) for answer in good + bad] == [1.0] * len(good) + [
        0.0
    ] * len(bad)


@pytest.mark.parametrize(
    "check",
    [
        "",
        "[]",
        '{"kind": "label", "value": "a", "labels": ["b"]}',
        '{"kind": "json_schema", "schema": {"type": 1}}',
        '{"kind": "poem"}',
        '{"kind": "regex"}',
        '{"kind": "regex", "pattern": "("}',
        '{"kind": "number"}',
    ],
)
def test_a_broken_check_is_an_error_that_shows_it(check: str) -> None:
    with pytest.raises(
        UserError, match="allowed kinds: exact, number, contains_all, contains_none"
    ) as error:
        score_answer("an answer", check)
    assert repr(check) in str(error.value)


def test_graded_scores_lie_between_0_and_1_and_take_the_best_reference() -> None:
    for kind in ("rouge_l", "chrf", "bleu"):
        check = json.dumps({"kind": kind, "references": ["the old cat sat on the mat"]})
        assert 0.0 < score_answer("the old cat sat on a chair", check) < 1.0
    two = json.dumps({"kind": "rouge_l", "references": ["nothing alike", "the cat sat"]})
    assert score_answer("the cat sat", two) == 1.0
    # by hand: longest common subsequence 2 of 3 words said and 4 referred to: P 2/3, R 2/4, F1 4/7
    by_hand = json.dumps({"kind": "rouge_l", "references": ["one two three four"]})
    assert score_answer("one two six", by_hand) == pytest.approx(4 / 7)


def test_the_first_label_counts_and_the_longer_of_two_at_one_place() -> None:
    assert named_label("HAM; spam", ["spam", "ham"]) == "ham"
    assert named_label("very high", ["high", "very high", "very"]) == "very high"
    assert named_label("highest", ["high"]) == ""
