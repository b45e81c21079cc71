from curation import boilerplate
from curation.boilerplate import common_lines, remove_lines

HEADER = "Copyright of somebody, all rights reserved"


def test_a_line_counts_once_a_document_and_needs_ten_of_them() -> None:
    documents = [f"{HEADER}\ntext number {n}\n  {HEADER}" for n in range(10)] + [f"other text {n}" for n in range(10)]
    assert common_lines(documents, 0.5) == {HEADER}
    assert common_lines(documents, 0.51) == common_lines(documents[:9], 0.5) == frozenset()


def test_short_lines_are_never_boilerplate() -> None:
    assert common_lines(["return\n}"] * 20, 0.5) == frozenset()


def test_frequent_lines_are_found_though_most_are_forgotten(monkeypatch) -> None:  # type: ignore[no-untyped-def]
    monkeypatch.setattr(boilerplate, "MAX_LINES", 200)
    documents = ["\n".join([HEADER, *(f"line {n} of document {m}" for n in range(20))]) for m in range(100)]
    assert common_lines(documents, 0.5) == {HEADER}


def test_removal_tells_how_many_and_leaves_other_texts_as_they_are() -> None:
    assert remove_lines(f"{HEADER}\nkept\n {HEADER}", frozenset({HEADER})) == ("kept", 2)
    assert remove_lines("kept\n", frozenset({HEADER})) == ("kept\n", 0)
