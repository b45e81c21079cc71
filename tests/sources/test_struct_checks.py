from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from lmadapt.sources.answer_checks import check_problem
from lmadapt.sources.by_role import Source, read_source


def test_keys_that_a_struct_column_adds_are_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    checks = [{"kind": "exact", "value": "A"}, {"kind": "contains_all", "values": ["b"]}]
    pq.write_table(pa.table({"prompt": ["One?", "Two?"], "check": checks}), "f.parquet")
    found = list(read_source(Source(path="f.parquet"), "evaluation", []))
    assert [check_problem(row["check"]) for row in found] == ["", ""]
