import sys
import zipfile
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from lmadapt.core.errors import UserError
from lmadapt.sources import csv_tables, documents, readers, text_lines
from lmadapt.sources.readers import read_records

PAGE = """<html><head><title>Notes</title><script>track()</script></head>
<body><nav><a href="/">Home</a></nav><main><h1>Buffers</h1>
<p>A buffer overflow writes past the end of the memory that was set aside for it.</p>
</main></body></html>"""


SCHEMAS = "http://schemas.openxmlformats.org"
TYPES = "application/vnd.openxmlformats"
DOCX = {
    "[Content_Types].xml": f'<Types xmlns="{SCHEMAS}/package/2006/content-types">'
    f'<Default Extension="rels" ContentType="{TYPES}-package.relationships+xml"/>'
    '<Override PartName="/word/document.xml" '
    f'ContentType="{TYPES}-officedocument.wordprocessingml.document.main+xml"/></Types>',
    "_rels/.rels": f'<Relationships xmlns="{SCHEMAS}/package/2006/relationships">'
    f'<Relationship Id="r1" Type="{SCHEMAS}/officeDocument/2006/relationships/officeDocument" '
    'Target="word/document.xml"/></Relationships>',
    "word/document.xml": f'<w:document xmlns:w="{SCHEMAS}/wordprocessingml/2006/main"><w:body>'
    "<w:p><w:r><w:t>A buffer overflow writes past its end.</w:t></w:r></w:p>"
    "</w:body></w:document>",
}


def test_a_folder_gives_one_document_a_file_in_order(tmp_path: Path) -> None:
    for name, text in {
        "b.txt": "b",
        "sub/a.md": "# a",
        "page.html": PAGE,
        "ignored.log": "x",
    }.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    found = dict(read_records(tmp_path, "body"))
    assert list(found) == ["b.txt", "page.html", "sub/a.md"]
    assert found["sub/a.md"] == {"body": "# a", "entity": "sub/a.md"}
    page = found["page.html"]["body"]  # type: ignore[index]
    assert "A buffer overflow writes past the end" in page
    assert "track()" not in page
    assert "<p>" not in page


@pytest.mark.parametrize("target", ["file", "folder"])
def test_a_link_out_of_the_folder_is_refused(target: str, tmp_path: Path) -> None:
    outside, folder = tmp_path / "outside", tmp_path / "docs"
    outside.mkdir()
    folder.mkdir()
    (outside / "secret.txt").write_text("secret")
    (folder / "fine.txt").write_text("fine")
    (folder / "inner.txt").symlink_to(folder / "fine.txt")
    assert len(list(read_records(folder, "text"))) == 2
    (folder / "link").symlink_to(outside if target == "folder" else outside / "secret.txt")
    with pytest.raises(UserError, match=r"docs/link: a link out of .*docs, to .*outside"):
        list(read_records(folder, "text"))


@pytest.mark.parametrize(("packed", "codec"), [(".gz", "gzip"), (".zst", "zstd")])
def test_a_truncated_archive_is_refused_at_the_line_it_ends(
    packed: str, codec: str, tmp_path: Path
) -> None:
    lines = b"".join(b'{"text": "%d"}\n' % (n * 7919 % 100_003) for n in range(50_000))
    whole = pa.compress(lines, codec=codec, asbytes=True)
    file = tmp_path / f"f.jsonl{packed}"
    file.write_bytes(whole[: len(whole) // 2])
    got = 0
    records = read_records(file, "text")
    with pytest.raises(UserError) as error:  # noqa: PT012 - what comes before the end is counted
        while next(records):
            got += 1
    assert f"f.jsonl{packed}:{got + 1}: cannot be read from here on: " in str(error.value)
    assert 0 < got < 50_000


def test_a_truncated_parquet_file_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "f.parquet"
    pq.write_table(pa.table({"text": ["one"] * 1000}), file)
    file.write_bytes(file.read_bytes()[:-20])
    with pytest.raises(UserError, match=r"f\.parquet:1: not a readable Parquet file"):
        list(read_records(file, "text"))


def test_a_line_that_is_too_long_is_a_bad_record_and_reading_continues(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (readers, documents, text_lines, csv_tables):
        monkeypatch.setattr(module, "MAX_RECORD_BYTES", 1000)
    file = tmp_path / "f.jsonl"
    file.write_text('{"text": "one"}\n{"text": "' + "x" * 5000 + '"}\n{"text": "three"}\n')
    found = dict(read_records(file, "text"))
    assert found == {
        "1": {"text": "one"},
        "2": "a line of more than 1,000 bytes",
        "3": {"text": "three"},
    }
    (tmp_path / "f.csv").write_text("text\none\n" + "x" * 5000 + "\n")
    with pytest.raises(UserError, match=r"f\.csv:3: a line of more than 1,000 bytes"):
        list(read_records(tmp_path / "f.csv", "text"))
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs/long.txt").write_text("x" * 1001)
    assert dict(read_records(tmp_path / "docs", "text")) == {
        "long.txt": "a document of 1,001 bytes; at most 1,000 are read"
    }


def test_json_nested_too_deeply_is_a_bad_record(tmp_path: Path) -> None:
    file = tmp_path / "f.jsonl"
    file.write_text("[" * 200_000)
    assert dict(read_records(file, "text")) == {"1": "not valid JSON: nested too deeply"}


def test_an_archive_of_files_is_refused(tmp_path: Path) -> None:
    (tmp_path / "docs.tar.gz").write_bytes(b"x")
    with pytest.raises(
        UserError,
        match=r"docs\.tar\.gz: cannot be read; allowed: a \.jsonl, \.csv or \.parquet file",
    ):
        read_records(tmp_path / "docs.tar.gz", "text")


def test_a_word_document_is_converted_and_a_broken_pdf_is_a_bad_record(tmp_path: Path) -> None:
    pytest.importorskip("markitdown")
    with zipfile.ZipFile(tmp_path / "a.docx", "w") as archive:
        for name, content in DOCX.items():
            archive.writestr(name, f'<?xml version="1.0" encoding="UTF-8"?>{content}')
    (tmp_path / "b.pdf").write_bytes(b"%PDF-1.4 broken")
    found = dict(read_records(tmp_path, "text"))
    assert found["a.docx"]["text"].strip() == "A buffer overflow writes past its end."  # type: ignore[index]
    assert "cannot be converted" in found["b.pdf"]


def test_without_the_converter_the_extra_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a.pdf").write_bytes(b"%PDF")
    monkeypatch.setitem(sys.modules, "markitdown", None)
    with pytest.raises(
        UserError, match=r"a\.pdf: reading it needs the extra `documents`: pip install"
    ):
        list(read_records(tmp_path, "text"))
