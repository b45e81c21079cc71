"""Keys of a message beside role and content."""

import json
from pathlib import Path
from typing import Any

import pytest

from lmadapt.sources.by_role import Source, read_source

CALL = [{"id": "1", "type": "function", "function": {"name": "weather", "arguments": "{}"}}]


def read(tmp_path: Path, extra: dict[str, Any]) -> tuple[list[Any], list[Any]]:
    """The rows and the bad records of a file whose second record has `extra` in its answer."""
    question = {"role": "user", "content": "Is it open?"}
    answer = {"role": "assistant", "content": "Until six."}
    records = [[question, answer], [question, answer | extra]]
    file = tmp_path / "chats.jsonl"
    file.write_text("".join(json.dumps({"messages": one}) + "\n" for one in records))
    bad: list[Any] = []
    return list(read_source(Source(path=str(file)), "instructions", bad)), bad


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("weight", 0),
        ("weight", 0.5),
        ("train", False),
        ("tool_calls", CALL),
        ("function_call", CALL[0]),
        ("tool_call_id", "1"),
        ("reasoning_content", "It is five."),
        ("reasoning", "It is five."),
        ("thinking", "It is five."),
        ("name", "Ann"),
    ],
)
def test_a_key_that_would_be_lost_makes_a_bad_record_that_names_it(
    key: str, value: Any, tmp_path: Path
) -> None:
    rows, bad = read(tmp_path, {key: value})
    assert len(rows) == 1
    (record,) = bad
    assert f"messages[1]: {key} is {value!r}, which is not supported" in record["problem"]
    assert record["location"] == "2"


@pytest.mark.parametrize(
    "extra",
    [
        {"weight": 1},
        {"weight": 1.0, "train": True},
        {"tool_calls": None, "reasoning_content": "", "name": None},
        {"tool_calls": [], "function_call": {}},
        {"id": "7", "created": 1712},
    ],
)
def test_keys_that_change_nothing_are_accepted(extra: dict[str, Any], tmp_path: Path) -> None:
    rows, bad = read(tmp_path, extra)
    assert (len(rows), bad) == (2, [])
