import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pydantic import ValidationError

from lmadapt.core.errors import Unavailable, UserError
from lmadapt.core.tables import RAW_TABLES, text_bytes
from lmadapt.sources.by_role import Role, Source, read_source


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def rows(path: str, content: str | bytes, role: Role, **columns: str) -> list[dict[str, Any]]:
    file = Path(path)
    file.write_bytes(content.encode() if isinstance(content, str) else content)
    bad: list[dict[str, Any]] = []
    found = list(read_source(Source.model_validate({"path": path, "columns": columns}), role, bad))
    if bad:
        raise UserError(bad[0]["problem"])
    return found


def refusal(path: str, content: str | bytes, role: Role, **columns: str) -> str:
    with pytest.raises(UserError) as error:
        rows(path, content, role, **columns)
    return str(error.value)


@pytest.mark.parametrize("packed", ["", ".gz", ".zst"])
@pytest.mark.parametrize("kind", ["t.jsonl", "t.csv", "t.parquet"])
def test_every_format_gives_the_same_documents(kind: str, packed: str) -> None:
    name = kind + packed
    if kind == "t.parquet":
        pq.write_table(pa.table({"text": ["one", "two"], "entity": ["a", "b"]}), "plain")
        content = Path("plain").read_bytes()
    elif kind == "t.csv":
        content = b"text,entity\none,a\ntwo,b\n"
    else:
        content = b'{"text": "one", "entity": "a"}\n{"text": "two", "entity": "b"}\n'
    if packed:
        content = pa.compress(content, codec={".gz": "gzip", ".zst": "zstd"}[packed], asbytes=True)
    found = rows(name, content, "corpus")
    assert [(row["text"], row["entity"], row["source"]) for row in found] == [
        ("one", "a", name),
        ("two", "b", name),
    ]
    assert len({row["id"] for row in found}) == 2
    assert all(row["id"] == f"{name}/{row['location']}" for row in found)


def test_instructions_come_as_messages_as_pairs_or_as_alpaca() -> None:
    messages = [{"role": "system", "content": "s"}, {"role": "user", "content": "q"}]
    answered = [*messages, {"role": "assistant", "content": "a"}]
    assert (
        rows("m.jsonl", json.dumps({"messages": answered}), "instructions")[0]["messages"]
        == answered
    )
    pair = rows("p.jsonl", '{"question": "q", "answer": "a", "category": "c"}', "instructions")[0]
    assert [message["content"] for message in pair["messages"]] == ["q", "a"]
    assert (pair["category"], pair["entity"]) == ("c", "")
    content = '{"instruction": "Add.", "input": "1, 2", "output": "3"}'
    alpaca = rows(
        "a.jsonl", content, "instructions", question="instruction", context="input", answer="output"
    )[0]
    assert [message["content"] for message in alpaca["messages"]] == ["Add.\n\n1, 2", "3"]
    assert alpaca["category"] == "a.jsonl"


def test_a_conversation_without_a_reply_gets_an_empty_one() -> None:
    lines = ['{"messages": [{"role": "user", "content": "q"}]}', '{"question": "q", "answer": "a"}']
    found = rows("m.jsonl", "\n".join(lines), "instructions")
    assert found[0]["messages"][-1] == {"role": "assistant", "content": ""}


def test_answers_are_texts_or_indices_and_csv_holds_choices_as_json() -> None:
    lines = [{"prompt": "2+2?", "choices": ["3", "4"], "answer": answer} for answer in ("4", 1)]
    found = rows("e.jsonl", "\n".join(map(json.dumps, lines)), "evaluation")
    assert [(row["answer"], row["group"], row["category"]) for row in found] == [
        (1, "domain", "e.jsonl")
    ] * 2
    content = 'prompt,choices,answer,group,entity\nWho?,"[""A"", ""B""]",1,general,x\n'
    row = rows("e.csv", content, "evaluation")[0]
    assert (row["choices"], row["answer"], row["group"], row["cluster"]) == (
        ["A", "B"],
        1,
        "general",
        "x",
    )


def test_an_index_with_a_decimal_point_is_an_index() -> None:
    line = {"prompt": "2+2?", "choices": ["3", "4"], "answer": 1.0}
    assert rows("e.jsonl", json.dumps(line), "evaluation")[0]["answer"] == 1
    assert "answer is 0.5" in refusal("e.jsonl", json.dumps(line | {"answer": 0.5}), "evaluation")


@pytest.mark.parametrize("columns", [{}, {"category": "category", "entity": "entity"}])
def test_an_empty_cell_is_a_missing_value(columns: dict[str, str]) -> None:
    found = rows(
        "q.csv", "question,answer,category,entity\nq,a,,\nq,a,c,e\n", "instructions", **columns
    )
    assert [(row["category"], row["entity"]) for row in found] == [("q.csv", ""), ("c", "e")]


def test_a_check_makes_a_behaviour_item() -> None:
    line = {
        "prompt": "Say yes.",
        "check": {"pattern": "yes", "kind": "regex"},
        "severity": "critical",
    }
    row = rows("e.jsonl", json.dumps(line), "evaluation")[0]
    assert (row["group"], row["severity"], row["answer"], row["choices"]) == (
        "behaviour",
        "critical",
        None,
        [],
    )
    assert json.loads(row["check"]) == line["check"]


BAD: list[tuple[str, str | bytes, Role, str]] = [
    ("f.jsonl", '{"text": "a"}\n{oops\n', "corpus", "f.jsonl:2: not valid JSON"),
    ("f.jsonl", '["a"]\n', "corpus", "f.jsonl:1: expected a JSON object"),
    (
        "f.jsonl",
        '{"body": "a", "x": 1}',
        "corpus",
        "f.jsonl:1: column 'text' is missing; present: body, x",
    ),
    ("f.jsonl", '{"text": 5}', "corpus", "f.jsonl:1: text must be text, got 5"),
    ("f.jsonl", '{"text": null}', "corpus", "f.jsonl:1: text must be text, got None"),
    (
        "f.jsonl",
        '{"text": "a"}\n{"text": "\\ud83d"}',
        "corpus",
        "f.jsonl:2: column 'text' has half a character, \\ud83d",
    ),
    (
        "f.jsonl",
        '{"messages": [{"role": "user", "content": "\\ude00"}]}',
        "instructions",
        "f.jsonl:1: column 'messages' has half a character, \\ude00",
    ),
    (
        "f.csv",
        'messages\n"[{""role"": ""user"", ""content"": ""\\ud83d""}]"',
        "instructions",
        "f.csv:2: column 'messages' has half a character, \\ud83d",
    ),
    ("f.jsonl", "", "corpus", "f.jsonl: empty"),
    (
        "f.jsonl",
        b'{"text": "\xff"}',
        "corpus",
        "f.jsonl:1: column 'text' has the byte 0xff, which is not UTF-8",
    ),
    ("f.jsonl.gz", b"no gzip", "corpus", "f.jsonl.gz:1: cannot be read from here on"),
    ("f.csv", "text\na\nb,c\n", "corpus", "f.csv:3: expected 1 columns"),
    ("f.csv", 'text\n"a', "corpus", "f.csv:2: not valid CSV"),
    ("f.parquet", "PAR", "corpus", "f.parquet:1: not a readable Parquet file"),
    ("f.docx", "x", "corpus", "f.docx: cannot be read; allowed: a .jsonl, .csv or .parquet file"),
    (
        "f.jsonl",
        '{"question": "q", "answer": " "}',
        "instructions",
        "no completions: the answer is empty in all 1 rows",
    ),
    (
        "f.jsonl",
        '{"question": "q"}',
        "instructions",
        "f.jsonl:1: column 'answer' is missing; present: question",
    ),
    ("f.jsonl", '{"messages": []}', "instructions", "f.jsonl:1: messages must be a list"),
    (
        "f.jsonl",
        '{"messages": [{"role": "user", "content": 1}]}',
        "instructions",
        "messages[0]: content must be text",
    ),
    (
        "f.jsonl",
        '{"messages": [{"role": "bot", "content": "x"}]}',
        "instructions",
        "role 'bot'; allowed: user",
    ),
    (
        "f.jsonl",
        '{"prompt": "p", "choices": ["a", "b"], "answer": "c"}',
        "evaluation",
        "none of the choices ['a', 'b']",
    ),
    (
        "f.jsonl",
        '{"prompt": "p", "choices": ["a", "b"], "answer": 2}',
        "evaluation",
        "f.jsonl:1: answer is 2",
    ),
    (
        "f.jsonl",
        '{"prompt": "p", "choices": ["a"], "answer": 0}',
        "evaluation",
        "choices must be a list of at least two",
    ),
    (
        "f.jsonl",
        '{"prompt": "p", "choices": ["a", "b"], "answer": 0, "group": "x"}',
        "evaluation",
        "allowed: domain, general, behaviour",
    ),
    (
        "f.jsonl",
        '{"prompt": "p", "check": "yes"}',
        "evaluation",
        "check must be a JSON object with a kind",
    ),
]


@pytest.mark.parametrize(("path", "content", "role", "message"), BAD)
def test_bad_content_is_refused_with_its_place(
    path: str, content: str | bytes, role: Role, message: str
) -> None:
    assert message in refusal(path, content, role)


def test_bad_records_are_reported_and_the_others_are_read() -> None:
    Path("f.jsonl").write_bytes(
        b'{"text": "one"}\nnope\n{"text": 2}\n{"text": "\xe9"}\n{"text": "three\\u0000"}\n'
    )
    bad: list[dict[str, Any]] = []
    found = list(read_source(Source(path="f.jsonl"), "corpus", bad))
    assert [row["location"] for row in found] == ["1", "5"]
    assert [(row["id"], row["role"], row["problem"]) for row in bad] == [
        ("f.jsonl/2", "corpus", "f.jsonl:2: not valid JSON: Expecting value at column 1"),
        ("f.jsonl/3", "corpus", "f.jsonl:3: text must be text, got 2"),
        ("f.jsonl/4", "corpus", "f.jsonl:4: column 'text' has the byte 0xe9, which is not UTF-8"),
    ]


def test_a_named_column_must_be_there_even_where_the_field_is_optional() -> None:
    assert "column 'topic' is missing; present: text" in refusal(
        "f.jsonl", '{"text": "a"}', "corpus", entity="topic"
    )


def test_a_missing_file_says_what_is_allowed() -> None:
    with pytest.raises(UserError, match=r"none.jsonl: no such file or folder; allowed: a .jsonl"):
        list(read_source(Source(path="none.jsonl"), "corpus", []))


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ({}, "exactly one of path, hub and module"),
        ({"path": "a", "module": "b"}, "exactly one of path, hub and module"),
        ({"hub": "a/b", "split": "train"}, "needs revision"),
        ({"path": "a", "split": "train"}, "belong to hub data sets only"),
        ({"module": "a", "columns": {"text": "x"}}, "leave `columns` out"),
    ],
)
def test_a_source_has_one_origin_and_its_own_settings(entry: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        Source.model_validate(entry)


def test_a_hub_data_set_is_read_by_split_and_an_unreachable_hub_is_unavailable(
    project: Path,
) -> None:
    folder = project / "acme/faq"
    folder.mkdir(parents=True)
    (folder / "train.jsonl").write_text('{"text": "one"}\n')
    (folder / "test.jsonl").write_text('{"text": "two"}\n{"text": "three"}\n')
    found = list(read_source(Source(hub="acme/faq", revision="main", split="test"), "corpus", []))
    assert [(row["id"], row["text"]) for row in found] == [
        ("acme/faq:test/0", "two"),
        ("acme/faq:test/1", "three"),
    ]
    with pytest.raises(UserError, match="acme/faq:dev"):
        list(read_source(Source(hub="acme/faq", revision="main", split="dev"), "corpus", []))
    with pytest.raises(Unavailable, match="acme/none:train: the hub cannot be reached"):
        list(read_source(Source(hub="acme/none", revision="main", split="train"), "corpus", []))


def test_text_is_counted_in_bytes_of_utf8() -> None:
    found = rows("f.jsonl", '{"text": "é"}\n{"text": "ab"}', "corpus")
    assert text_bytes(pa.Table.from_pylist(found, schema=RAW_TABLES["corpus"])) == 4
    found = rows("q.jsonl", '{"question": "abc", "answer": "d"}', "instructions")
    assert text_bytes(pa.Table.from_pylist(found, schema=RAW_TABLES["instructions"])) == 4
    found = rows("e.jsonl", '{"prompt": "p", "choices": ["a", "bc"], "answer": 0}', "evaluation")
    assert text_bytes(pa.Table.from_pylist(found, schema=RAW_TABLES["evaluation"])) == 4
