"""Files as other tools write, join, pad and store them."""

import gzip
from pathlib import Path
from typing import Any

import pytest

from lmadapt.core.errors import UserError
from lmadapt.sources.by_role import Source, read_source
from lmadapt.sources.readers import read_records

POINTER = (
    "version https://git-lfs.github.com/spec/v1\n"
    "oid sha256:4d7a214614ab2935c943f9e0ff69d22eadbb8f32b1258daaa5e2ca24d17e2393\nsize 12345\n"
)
LINES = '{"question": "Wie spät?", "answer": "Acht."}\n{"question": "Wo?", "answer": "Hier."}\n'
TABLE = [["question", "answer"], ["Wie spät?", "Acht, fast."], ["Wo?", "Hier."]]


def read(file: Path, content: bytes) -> tuple[list[Any], list[Any]]:
    """Question and answer of each row, and the problems of the bad records."""
    file.write_bytes(content)
    bad: list[dict[str, Any]] = []
    rows = list(read_source(Source(path=str(file)), "instructions", bad))
    pairs = [[message["content"] for message in row["messages"]] for row in rows]
    return pairs, [record["problem"] for record in bad]


def table(separator: str, quote: str = '"') -> str:
    return "".join(separator.join(f"{quote}{cell}{quote}" for cell in row) + "\n" for row in TABLE)


@pytest.mark.parametrize("name", ["a.jsonl", "a.csv", "a.parquet", "a.jsonl.gz"])
def test_a_pointer_of_git_lfs_is_named_with_the_cure(name: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="a pointer of Git LFS, not the data; run `git lfs"):
        read(tmp_path / name, POINTER.encode())


def test_a_pointer_of_git_lfs_in_a_folder_is_no_document(tmp_path: Path) -> None:
    (tmp_path / "a.md").write_text(POINTER)
    (tmp_path / "b.md").write_text("A note on version https://git-lfs.github.com/spec/v1.")
    found = dict(read_records(tmp_path, "text"))
    assert found["a.md"] == "a pointer of Git LFS, not the data; run `git lfs pull`"
    assert found["b.md"] == {"text": (tmp_path / "b.md").read_text(), "entity": "b.md"}


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-8-sig"])
def test_lines_and_tables_in_utf_16_are_read_with_and_without_a_mark(
    encoding: str, tmp_path: Path
) -> None:
    expected = ([["Wie spät?", "Acht."], ["Wo?", "Hier."]], [])
    assert read(tmp_path / "a.jsonl", LINES.encode(encoding)) == expected
    assert read(tmp_path / "a.jsonl.gz", gzip.compress(LINES.encode(encoding))) == expected
    assert read(tmp_path / "a.csv", table("\t").encode(encoding))[0] == TABLE[1:]


@pytest.mark.parametrize("separator", [",", ";", "\t", "|", ", "])
def test_columns_may_be_separated_by_other_signs_than_commas(
    separator: str, tmp_path: Path
) -> None:
    assert read(tmp_path / "a.csv", table(separator).encode()) == (TABLE[1:], [])
    unquoted = table(separator, "").replace("Acht, fast.", "Acht.").encode()
    assert read(tmp_path / "b.csv", unquoted)[0] == [["Wie spät?", "Acht."], ["Wo?", "Hier."]]


def test_a_missing_column_is_named_beside_the_columns_that_other_signs_separate(
    tmp_path: Path,
) -> None:
    with pytest.raises(UserError, match="'question' is missing; present: frage, antwort"):
        read(tmp_path / "a.csv", b"frage;antwort\nWo?;Hier, dort.\n")


def test_spaces_around_the_names_of_columns_do_not_count(tmp_path: Path) -> None:
    assert read(tmp_path / "a.csv", b" question ,answer\t\nWo?,Hier.\n") == ([["Wo?", "Hier."]], [])
    source = Source.model_validate({"path": str(tmp_path / "b.csv"), "columns": {"text": " text"}})
    (tmp_path / "b.csv").write_text(" text,text\none,two\n")
    assert [row["text"] for row in read_source(source, "corpus", [])] == ["one"]


@pytest.mark.parametrize("name", ["A.JSONL", "A.Jsonl.GZ"])
def test_endings_in_capitals_are_the_same_endings(name: str, tmp_path: Path) -> None:
    content = gzip.compress(LINES.encode()) if name.endswith("GZ") else LINES.encode()
    assert len(read(tmp_path / name, content)[0]) == 2


def test_files_joined_by_cat_are_read_through_their_marks_and_headers(tmp_path: Path) -> None:
    part = LINES.encode("utf-8-sig")
    assert len(read(tmp_path / "a.jsonl", part + part)[0]) == 4
    rows = table(",").encode("utf-8-sig")
    assert read(tmp_path / "a.csv", rows + rows) == (TABLE[1:] * 2, [])
    turned = "\n".join(",".join(reversed(row)) for row in (TABLE[0], TABLE[2]))
    pairs, (problem,) = read(tmp_path / "b.csv", rows + turned.encode("utf-8-sig"))
    assert "names the columns in another order than line 1; join only files" in problem
    # Without a line end between the files, two records share a line.
    pairs, (problem,) = read(tmp_path / "b.jsonl", part.rstrip() + part)
    assert len(pairs) == 2
    assert "; put each record on a line of its own" in problem


def test_zeros_behind_an_archive_and_several_archives_in_one_file_are_read(tmp_path: Path) -> None:
    packed = gzip.compress(LINES.encode())
    assert len(read(tmp_path / "a.jsonl.gz", packed + b"\0" * 10_000)[0]) == 2
    assert len(read(tmp_path / "a.jsonl.gz", packed + packed + b"\0" * 512)[0]) == 4
    with pytest.raises(UserError, match=r"a\.jsonl\.gz:3: cannot be read from here on: "):
        read(tmp_path / "a.jsonl.gz", packed + b"\0" * 512 + b"rest")
    with pytest.raises(UserError, match="cannot be read from here on: "):
        read(tmp_path / "b.jsonl.gz", packed[:-12])
