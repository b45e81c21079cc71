from pathlib import Path

import pyarrow as pa
import pytest

from lmadapt.core.errors import UserError
from lmadapt.core.tables import DOCUMENT, INSTRUCTION, read_table, write_table

ROW = {"id": "a/1", "text": "Text", "entity": "", "source": "a", "location": "1"}


def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    write_table([ROW], DOCUMENT, tmp_path / "corpus.parquet")
    assert read_table(tmp_path / "corpus.parquet", DOCUMENT).to_pylist() == [ROW]


def test_a_row_that_does_not_fit_is_refused_and_nothing_is_written(tmp_path: Path) -> None:
    with pytest.raises(
        UserError, match=r"corpus\.parquet: a row does not fit the columns id, text"
    ):
        write_table([{**ROW, "text": 3}], DOCUMENT, tmp_path / "corpus.parquet")
    assert not list(tmp_path.iterdir())


def test_a_table_of_other_columns_is_refused(tmp_path: Path) -> None:
    write_table([ROW], DOCUMENT, tmp_path / "corpus.parquet")
    with pytest.raises(
        UserError, match=r"corpus\.parquet: expected the columns id: string\nmessages"
    ):
        read_table(tmp_path / "corpus.parquet", INSTRUCTION)


def test_a_missing_or_broken_table_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such file"):
        read_table(tmp_path / "corpus.parquet", DOCUMENT)
    (tmp_path / "corpus.parquet").write_bytes(b"PAR1 no parquet")
    with pytest.raises(UserError, match="not a readable Parquet file"):
        read_table(tmp_path / "corpus.parquet", DOCUMENT)


def test_an_empty_table_keeps_its_columns(tmp_path: Path) -> None:
    write_table([], DOCUMENT, tmp_path / "corpus.parquet")
    assert read_table(tmp_path / "corpus.parquet", DOCUMENT).equals(
        pa.Table.from_pylist([], schema=DOCUMENT)
    )
