"""Values that cannot be read: told of where a row needs them, and not where none does."""

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from lmadapt.core.errors import UserError
from lmadapt.core.tables import BAD_RECORD, write_table
from lmadapt.sources.by_role import Role, Source, read_source

YEAR_10000 = 253_402_300_800_000_000  # microseconds since 1970


def read(file: Path, role: Role = "corpus", **columns: str) -> tuple[list[Any], list[str]]:
    """The rows, and the problems of the bad records, which a table must be able to hold."""
    bad: list[dict[str, Any]] = []
    source = Source.model_validate({"path": str(file), "columns": columns})
    found = list(read_source(source, role, bad))
    write_table(bad, BAD_RECORD, file.with_name("bad.parquet"))
    return found, [record["problem"] for record in bad]


@pytest.mark.parametrize("number", ["7" * 5000, "-" + "7" * 5000])
def test_a_number_of_5000_digits_matters_only_where_it_is_needed(
    number: str, tmp_path: Path
) -> None:
    file = tmp_path / "a.jsonl"
    file.write_text(f'{{"text": "one", "n": {number}}}\n{{"text": {number}}}\n')
    rows, (problem,) = read(file)
    assert [row["text"] for row in rows] == ["one"]
    assert problem.endswith("a.jsonl:2: column 'text' has a number of 5,000 digits")


def test_a_number_of_5000_digits_in_a_check_makes_a_bad_record(tmp_path: Path) -> None:
    check = '{"kind": "number", "value": %s}' % ("7" * 5000)
    good = json.dumps({"prompt": "p", "check": '{"kind": "number", "value": 7}'})
    for shape in (check, json.dumps(check)):
        file = tmp_path / "items.jsonl"
        file.write_text(good + f'\n{{"prompt": "p", "check": {shape}}}\n')
        rows, (problem,) = read(file, "evaluation")
        assert len(rows) == 1
        assert "has a number of 5,000 digits" in problem


def test_bytes_that_are_not_utf_8_matter_only_where_they_are_needed(tmp_path: Path) -> None:
    file = tmp_path / "b.jsonl"
    file.write_bytes(b'{"text": "one", "k\xe9y": "\xe9"}\n{"k\xe9y": 1}\n"caf\xe9"\n')
    rows, problems = read(file)
    assert [row["text"] for row in rows] == ["one"]
    assert problems == [
        rf"{file}:2: column 'text' is missing; present: k\udce9y",
        f'{file}:3: expected a JSON object, got "caf\\udce9"',
    ]


def test_a_date_beyond_the_year_9999_matters_only_where_it_is_needed(tmp_path: Path) -> None:
    file = tmp_path / "c.parquet"
    times = pa.array([0, YEAR_10000], pa.timestamp("us"))
    names = ["one", "two"]
    pq.write_table(pa.table({"text": names, "until": times, "entity": names}), file)
    rows, problems = read(file)
    assert ([row["text"] for row in rows], problems) == (names, [])
    with pytest.raises(UserError, match=r"c\.parquet:1: until must be text, got datetime"):
        read(file, entity="until")
    pq.write_table(pa.table({"text": names, "until": times[::-1]}), file)
    with pytest.raises(UserError, match=r"c\.parquet:1: column 'until' cannot be read: "):
        read(file, entity="until")


def test_a_text_of_parquet_that_is_not_utf_8_is_one_bad_record(tmp_path: Path) -> None:
    file = tmp_path / "d.parquet"
    texts = pa.Array.from_buffers(
        pa.string(),
        2,
        [None, pa.py_buffer(b"\0\0\0\0\3\0\0\0\7\0\0\0"), pa.py_buffer(b"onecaf\xe9")],
    )
    pq.write_table(pa.table({"text": texts}), file)
    rows, (problem,) = read(file)
    assert [row["text"] for row in rows] == ["one"]
    assert "d.parquet:2: column 'text' cannot be read" in problem


def test_only_the_columns_that_a_role_needs_are_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "e.parquet"
    pq.write_table(pa.table({"body": ["one"], "image": [b"0"], "a.b": ["x"]}), file)
    asked: list[list[str]] = []
    batches = pq.ParquetFile.iter_batches

    def watch(self: Any, *, columns: list[str], **settings: Any) -> Any:
        asked.append(columns)
        return batches(self, columns=columns, **settings)

    monkeypatch.setattr(pq.ParquetFile, "iter_batches", watch)
    assert len(read(file, text="body")[0]) == 1
    with pytest.raises(UserError, match=r"'text' is missing; present: body, image, a\.b"):
        read(file)
    assert asked == [["body"], ["body"]]


@pytest.mark.parametrize("kind", ["csv", "jsonl", "parquet"])
def test_a_column_named_twice_matters_only_where_it_is_needed(kind: str, tmp_path: Path) -> None:
    def write(names: list[str]) -> Path:
        file = tmp_path / f"f.{kind}"
        values = ["one", "two", "three"]
        if kind == "csv":
            file.write_text(",".join(names) + "\n" + ",".join(values) + "\n")
        elif kind == "jsonl":
            pairs = zip(names, values, strict=True)
            file.write_text("{" + ", ".join(f'"{name}": "{own}"' for name, own in pairs) + "}\n")
        else:
            pq.write_table(pa.Table.from_arrays([pa.array([own]) for own in values], names), file)
        return file

    assert read(write(["text", "x", "x"]))[0][0]["text"] == "one"
    with pytest.raises(UserError, match="column 'text' is named twice"):
        read(write(["text", "entity", "text"]))


def test_a_key_named_twice_inside_a_message_makes_a_bad_record(tmp_path: Path) -> None:
    good = '{"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]}'
    file = tmp_path / "m.jsonl"
    file.write_text(good + "\n" + good.replace('"q"', '"q", "content": "r"') + "\n")
    rows, (problem,) = read(file, "instructions")
    assert len(rows) == 1
    assert problem.endswith("column 'messages' has 'content', which is named twice")


def test_json_nested_just_within_the_parsers_limit_makes_a_bad_record(tmp_path: Path) -> None:
    file = tmp_path / "deep.jsonl"
    for depth in (100, 900, 980, 5000):
        file.write_text('{"text": "one"}\n{"text": ' + "[" * depth + "]" * depth + "}\n")
        rows, problems = read(file)
        assert (len(rows), len(problems)) == (1, 1)
