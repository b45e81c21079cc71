import numpy as np
import pyarrow as pa
import pytest

from lmadapt.curation import boilerplate
from lmadapt.curation.boilerplate import common_lines, line_hashes, remove_lines

HEADER = "Copyright of somebody, all rights reserved \u00a9"


def column(*texts: str) -> pa.Array:
    return pa.array(texts, pa.large_string())


def hashes(*lines: str) -> list[int]:
    return sorted(line_hashes(column(*lines))[0].tolist())


def common(groups: list[pa.Array], min_fraction: float) -> np.ndarray:
    return common_lines(map(line_hashes, groups), min_fraction)


def test_a_line_counts_once_a_document_and_ten_documents_must_have_it() -> None:
    documents = [f"{HEADER}\ntext number {n}\n  {HEADER}\t" for n in range(10)]
    documents += [f"other text {n}" for n in range(10)]
    assert common([column(*documents)], 0.5).tolist() == hashes(HEADER)
    assert common([column(*documents)], 0.51).tolist() == []
    assert common([column(*documents[:9])], 0.5).tolist() == []


def test_short_lines_are_never_boilerplate() -> None:
    assert (
        common(
            [column(*["return\n}\n\u00e9\u00e9\u00e9\u00e9\u00e9\u00e9\u00e9"] * 20)], 0.5
        ).tolist()
        == []
    )


def test_groups_are_counted_together() -> None:
    groups = [column(*[HEADER] * 4), column("", *[f"a\n{HEADER}"] * 6)]
    assert common(groups, 0.9).tolist() == hashes(HEADER)


def test_frequent_lines_are_found_though_most_are_forgotten(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(boilerplate, "MAX_LINES", 200)
    documents = [
        "\n".join([HEADER, *(f"line {n} of document {m}" for n in range(20))]) for m in range(100)
    ]
    assert common([column(*documents[:50]), column(*documents[50:])], 0.5).tolist() == hashes(
        HEADER
    )


def test_removal_counts_the_lines_and_leaves_other_texts_alone() -> None:
    lines = np.array(hashes(HEADER), np.uint64)
    texts = ["kept\n", f"{HEADER}\nkept\n {HEADER}", "", HEADER]
    assert list(remove_lines(texts, lines)) == [(1, "kept", 2), (3, "", 1)]
    assert list(remove_lines([], lines)) == []
