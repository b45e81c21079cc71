"""Files that editors, desktops and version control leave in a folder of documents."""

import logging
import os
from pathlib import Path
from typing import Any

import pytest

from lmadapt.core.errors import UserError
from lmadapt.sources.by_role import Source
from lmadapt.sources.documents import skipped_documents
from lmadapt.sources.readers import read_records
from stages.fetch import _count_skipped

LEFT_BEHIND = (
    ".git/description.md",
    ".ipynb_checkpoints/a-checkpoint.md",
    ".trash/old.md",
    "sub/.hidden/deep/b.txt",
    "sub/._a.md",
    "~$a.docx",
    "node_modules/left/README.md",
    "__MACOSX/a.md",
)


@pytest.fixture
def notes(tmp_path: Path) -> Path:
    for name in ("a.md", "sub/b.md", *LEFT_BEHIND):
        file = tmp_path / "notes" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(name)
    return tmp_path / "notes"


def locations(folder: Path) -> list[str]:
    return [location for location, _ in read_records(folder, "text")]


def test_hidden_and_temporary_files_are_skipped_and_named(
    notes: Path, caplog: pytest.LogCaptureFixture
) -> None:
    assert locations(notes) == ["a.md", "sub/b.md"]
    assert sorted(skipped_documents(notes)) == sorted(LEFT_BEHIND)
    with caplog.at_level(logging.WARNING):
        assert _count_skipped([Source(path=str(notes))]) == len(LEFT_BEHIND)
    assert "8 hidden or temporary files are not read, such as .git/description.md" in caplog.text


def test_a_hidden_folder_is_read_when_it_is_named(notes: Path) -> None:
    assert locations(notes / ".trash") == ["old.md"]
    assert skipped_documents(notes / ".trash") == []


def test_a_link_to_itself_and_one_to_nothing_are_bad_records(notes: Path) -> None:
    (notes / "loop.md").symlink_to(notes / "loop.md")
    (notes / "gone.md").symlink_to(notes / "deleted.md")
    found = dict(read_records(notes, "text"))
    assert found["loop.md"] == "a link to itself; remove it"
    assert str(found["gone.md"]).endswith("notes/deleted.md, which does not exist; remove it")
    assert found["sub/b.md"] == {"text": "sub/b.md", "entity": "sub/b.md"}


def test_a_file_name_that_is_not_utf_8_makes_a_bad_record(notes: Path) -> None:
    (notes / os.fsdecode(b"caf\xe9.md")).write_text("A note.")
    assert dict(read_records(notes, "text"))[r"caf\xe9.md"] == (
        "its name is not UTF-8; rename the file"
    )


def test_a_folder_that_cannot_be_listed_stops_instead_of_being_left_out(
    notes: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scandir = os.scandir

    def refuse(path: str) -> Any:  # as for another user's folder
        if Path(path).name == "sub":
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(UserError, match=r"notes/sub: the folder cannot be read: Permission"):
        locations(notes)
