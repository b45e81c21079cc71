import pytest

from lmadapt.evaluation.degenerate_answers import is_degenerate


@pytest.mark.parametrize(
    "answer",
    [
        "",
        " \n\t",
        "the the the the the the",
        "It is a buffer. It is a buffer. It is a buffer.",
        "A good start, and then the sea and the sea and the sea and the sea an",
        "Yes\nyes\nYES\nyes\nyes\nyes",
        "!" * 40,
        "Answer: " + "abab" * 10,
        "\u6d77\u662f\u84dd\u8272\u7684\u6d77\u662f\u84dd\u8272\u7684\u6d77\u662f\u84dd\u8272\u7684",
    ],
)
def test_empty_and_looping_answers_are_degenerate(answer: str) -> None:
    assert is_degenerate(answer)


@pytest.mark.parametrize(
    "answer",
    [
        "7",
        "yes",
        "The sea is large, blue and salty.",
        "the sea the sea the sea is what they sang",  # it goes on
        "no no no",
        "one two, one two",
        '{"name": "Ann", "name": "Bob"}',
        "Title\n" + "-" * 20,
        "10000000000000000000",
    ],
)
def test_answers_that_end_by_themselves_are_not(answer: str) -> None:
    assert not is_degenerate(answer)
