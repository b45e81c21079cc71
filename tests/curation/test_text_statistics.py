import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lmadapt.curation.text_statistics import CHARACTERS, REPEATED_RUNS, TOP_RUNS, measure
from lmadapt.curation.word_hashes import split_words

NAMES = {*CHARACTERS, "stop_words", *(f"top_{n}gram_fraction" for n in TOP_RUNS)}
NAMES |= {f"repeated_{n}gram_fraction" for n in REPEATED_RUNS}


def statistics(*texts: str) -> dict[str, float]:
    column = pa.array(texts, pa.large_string())
    return {
        name: values[-1] for name, values in measure(column, split_words(column), NAMES).items()
    }


def test_lines_words_and_characters_are_counted() -> None:
    found = statistics("# The cat, and the dog.\n- a {b}\nThe end...\n\nThe end...")
    assert found["lines_per_word"] == pytest.approx(4 / 13)
    assert found["repeated_line_fraction"] == pytest.approx(1 / 4)
    assert found["bullet_line_fraction"] == pytest.approx(1 / 4)
    assert found["ellipsis_line_fraction"] == pytest.approx(2 / 4)
    assert found["punctuated_line_fraction"] == pytest.approx(3 / 4)
    assert found["curly_brackets"] == 1
    assert found["symbols_per_word"] == pytest.approx(3 / 13)
    assert found["stop_words"] == 2
    assert found["sentences"] == 3


def test_runs_of_words_are_counted_as_shares_of_the_words() -> None:
    found = statistics("a b a b a b c d")
    assert found["top_2gram_fraction"] == pytest.approx(6 / 8)
    assert statistics(" ".join(["one two three four five"] * 2))[
        "repeated_5gram_fraction"
    ] == pytest.approx(0.5)
    assert statistics("one two three")["repeated_5gram_fraction"] == 0.0


def test_a_text_does_not_depend_on_its_neighbours() -> None:
    assert statistics("one two one two", "ünï {x}\nünï {x}") == statistics("ünï {x}\nünï {x}")


def test_empty_texts_have_statistics() -> None:
    assert set(statistics("").values()) == {0.0}


@settings(deadline=None, max_examples=200)
@given(st.lists(st.sampled_from("abcd"), max_size=60))
def test_runs_of_all_sizes_are_found(words: list[str]) -> None:
    found = statistics("x y z", " ".join(words))
    for size in (*TOP_RUNS, *REPEATED_RUNS):
        runs = [tuple(words[place : place + size]) for place in range(len(words) - size + 1)]
        again = [place for place, run in enumerate(runs) if run in runs[:place]]
        covered = set().union(*(range(place, place + size) for place in again))
        most = max((runs.count(run) for run in runs), default=0)
        top = min(len(words), most * size) if most > 1 else 0
        name, counted = ("top", top) if size in TOP_RUNS else ("repeated", len(covered))
        assert found[f"{name}_{size}gram_fraction"] == pytest.approx(counted / max(1, len(words)))


def test_many_lines_of_a_letter_are_counted() -> None:
    assert statistics("a\nb\nc\nd\ne\na")["repeated_line_fraction"] == pytest.approx(1 / 6)
