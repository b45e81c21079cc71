import json
from typing import Any

import pytest

from lmadapt.sources.answer_checks import check_problem, named_label, score_answer
from lmadapt.sources.answer_texts import last_number, words


def score(answer: str, kind: str, **keys: Any) -> float:
    return score_answer(answer, json.dumps({"kind": kind, **keys}))


@pytest.mark.parametrize(
    ("value", "right", "wrong"),
    [
        ("A", ["A", "a.", "The A"], ["", "B", "the", "..."]),
        ("-5", ["-5", "\u22125"], ["5", "+5 -"]),
        (5, ["5", "5."], ["-5", "\u22125"]),
        ("C++", ["c++", "C++."], ["C", "C#"]),
        ("C", ["C", "c."], ["C++", "C#"]),
        ("सेब", ["सेब", "सेब।"], ["सब"]),
        ("ผิด", ["ผิด"], ["ผด"]),
        ("!=", ["!="], ["", "not"]),
        ("a <= b", ["a <= b"], ["a b", "a >= b"]),
        ("user", ["us\u00ader", "user 😀"], ["us er"]),
    ],
)
def test_exact_answers_keep_signs_and_marks(
    value: str | int, right: list[str], wrong: list[str]
) -> None:
    scores = [score(answer, "exact", value=value) for answer in [*right, *wrong]]
    assert scores == [1.0] * len(right) + [0.0] * len(wrong)


@pytest.mark.parametrize(
    "check",
    [
        {"kind": "exact", "value": "..."},
        {"kind": "exact", "value": ["six", ""]},
        {"kind": "exact", "value": []},
        {"kind": "contains_all", "values": ["\u200b"]},
        {"kind": "label", "value": "a", "labels": ["a", " "]},
        {"kind": "rouge_l", "references": ["?!"]},
    ],
)
def test_a_value_without_anything_to_compare_is_refused(check: dict[str, Any]) -> None:
    problem = check_problem(json.dumps(check))
    assert "to compare answers with" in problem or "the list is empty" in problem


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("The answer is \u22125", {-5}),
        ("x is -5", {-5}),
        ("pages 5-12", {12}),
        ("CVE-2021-44228", {44228}),
        ("3,14", {3.14, 14}),
        ("0,125", {0.125}),
        ("1.234.567", {1234567}),
        ("1.234,5", {1234.5}),
        ("1,234.5", {1234.5}),
        ("1\u202f234\u202f567", {1234567, 567}),
        ("12 345,5", {12345.5, 345.5, 5}),
        ("1'234", {1234}),
        ("-1,200", {-1200}),
        ("\u0661\u0662\u066b\u0665", {12.5}),
        ("none", set()),
    ],
)
def test_the_last_number_is_read_in_the_ways_it_is_written(text: str, values: set[float]) -> None:
    assert last_number(text) == values


@pytest.mark.parametrize(
    ("answer", "word"),
    [
        ("东京是日本的首都。", "东京"),
        ("هذا بيت كبير؟", "بيت"),
        ("भारत एक बड़ा देश है।", "देश"),
        ('He said "all water is wet."', "water"),
    ],
)
def test_sentences_of_other_scripts_pass(answer: str, word: str) -> None:
    assert score(answer, "sentence", min_words=3, contains=word) == 1.0
    assert score(answer.rstrip('。؟।."'), "sentence", min_words=3, contains=word) == 0.0


def test_a_loop_without_spaces_is_no_sentence() -> None:
    assert score("東京東京東京東京。", "sentence", min_words=3, contains="東京") == 0.0


@pytest.mark.parametrize(
    "text", ["Мы здесь", "今天很好", "هذا بيت كبير", "अच्छा देश है", "วันนี้อากาศดี", "東京タワーです"]
)
@pytest.mark.parametrize("kind", ["rouge_l", "bleu", "chrf"])
def test_equal_texts_of_any_script_score_1_and_others_less(kind: str, text: str) -> None:
    assert score(text, kind, references=[text]) == 1.0
    assert score("completely different", kind, references=[text]) == 0.0
    assert score(text[: len(text) // 2], kind, references=[text]) < 1.0


def test_rouge_l_of_characters_is_that_of_its_formula() -> None:
    assert score("今天好", "rouge_l", references=["今天很好"]) == pytest.approx(6 / 7)  # P 1, R 3/4


def test_words_of_spaceless_scripts_are_characters() -> None:
    assert words("TLS是加密協議 für सेब") == ["tls", *"是加密協議", "für", "सेब"]


def test_a_label_is_not_an_article_nor_a_part_of_a_word() -> None:
    assert named_label("It is a matter of B", ["A", "B"]) == "B"
    assert named_label("a is right, not B", ["A", "B"]) == "A"
    assert named_label("这是正面的", ["正面", "负面"]) == "正面"
    assert named_label("अच्छा", ["अच्छ"]) == ""


def test_json_nested_too_deeply_is_a_wrong_answer() -> None:
    assert score('{"a":' + "[" * 5000, "json_keys", keys=["a"]) == 0.0
