"""Folders of documents: text, HTML, PDF and DOCX files, each one record."""

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NoReturn

from lmadapt.core.errors import UserError
from lmadapt.sources.encodings import UnknownEncoding, decode

Record = Mapping[str, Any] | str
TEXTS, CONVERTED = (".txt", ".md", ".html", ".htm"), (".pdf", ".docx")
# Of a line or a document: a longer one is a mistake, and may not fit into memory.
MAX_RECORD_BYTES = 2**25
# What editors, desktops, version control and package managers leave behind: .git, .trash,
# .ipynb_checkpoints, AppleDouble files (._x), lock files of Office (~$x), copies of other projects.
SKIPPED_STARTS = (".", "~$")
SKIPPED_FOLDERS = ("node_modules", "__MACOSX")


# Git LFS leaves such a file where the data would be, until they are pulled.
POINTER = b"version https://git-lfs.github.com/spec/"
POINTER_PROBLEM = "a pointer of Git LFS, not the data; run `git lfs pull`"


def is_pointer(file: Path) -> bool:
    """Whether a file only points to data that Git LFS keeps elsewhere."""
    with file.open("rb") as stream:
        return stream.read(len(POINTER)) == POINTER


def folder_records(folder: Path, column: str) -> Iterator[tuple[str, Record]]:
    """Location and record of each document, {column: its text, "entity": its location}.

    A document that cannot be read is a sentence that says why. Raises UserError at a link that
    leads out of the folder, and at a folder that cannot be listed.
    """
    for file in _files(folder)[0]:
        location = os.fsencode(file.relative_to(folder)).decode("utf-8", "backslashreplace")
        try:
            if _is_document(file, folder):
                yield location, {column: _document_text(file), "entity": location}
        except _BadDocument as error:
            yield location, str(error)


def skipped_documents(folder: Path) -> list[str]:
    """Paths below a folder of the documents that are hidden or temporary, so not read."""
    skipped = [file.relative_to(folder) for file in _files(folder)[1]]
    return [os.fsencode(file).decode("utf-8", "backslashreplace") for file in skipped]


def _files(folder: Path) -> tuple[list[Path], list[Path]]:
    """The files and links to look at, and the documents to skip, each in order.

    A folder that the user names is read whatever it is called; only names below it are looked at.
    """
    taken: list[Path] = []
    skipped: list[Path] = []
    for parent, folders, names in os.walk(folder, onerror=_stop):
        for name in (*folders, *names):
            file = Path(parent, name)
            if not any(map(_is_skipped, file.relative_to(folder).parts)):
                taken.append(file)
            elif name in names and file.suffix.lower() in (*TEXTS, *CONVERTED):
                skipped.append(file)
    return sorted(taken), sorted(skipped)


def _is_document(file: Path, folder: Path) -> bool:
    """Whether to read a file; links must stay within the folder."""
    document = file.suffix.lower() in (*TEXTS, *CONVERTED)
    if file.is_symlink():
        try:
            target = file.resolve()
        except RuntimeError:
            raise _BadDocument("a link to itself; remove it") from None
        if not target.is_relative_to(folder.resolve()):
            raise UserError(
                f"{file}: a link out of {folder}, to {target}; "
                "name its target as a source of its own"
            )
        if document and not target.exists():
            raise _BadDocument(f"a link to {target}, which does not exist; remove it")
    return document and file.is_file()


def _stop(error: OSError) -> NoReturn:
    raise UserError(f"{error.filename}: the folder cannot be read: {error.strerror}") from None


def _is_skipped(name: str) -> bool:
    return name.startswith(SKIPPED_STARTS) or name in SKIPPED_FOLDERS


class _BadDocument(Exception):
    """A document that cannot be read, in a folder whose other documents can."""


def _document_text(file: Path) -> str:
    try:
        file.name.encode()
    except UnicodeEncodeError:
        raise _BadDocument("its name is not UTF-8; rename the file") from None
    size = file.stat().st_size
    if size > MAX_RECORD_BYTES:
        raise _BadDocument(f"a document of {size:,} bytes; at most {MAX_RECORD_BYTES:,} are read")
    if is_pointer(file):
        raise _BadDocument(POINTER_PROBLEM)
    if file.suffix.lower() in CONVERTED:
        return _converted_text(file)
    markup = file.suffix.lower() in (".html", ".htm")
    try:
        text = decode(file.read_bytes(), markup=markup)
    except UnknownEncoding as error:
        raise _BadDocument(str(error)) from None
    except OSError as error:
        raise _BadDocument(f"cannot be read: {error.strerror}") from None
    return _html_text(text) if markup else text


def _html_text(page: str) -> str:
    """What a page says, without its navigation (trafilatura: Barbaresi 2021)."""
    import trafilatura

    return trafilatura.extract(page, include_comments=False, favor_recall=True) or ""


def _converted_text(file: Path) -> str:
    try:
        from markitdown import MarkItDown
    except ImportError:
        raise UserError(
            f"{file}: reading it needs the extra `documents`: pip install 'lmadapt[documents]'"
        ) from None
    try:
        text = str(MarkItDown().convert(str(file)).text_content)
    except Exception as error:  # the parsers raise anything on a broken file
        problem = f"{type(error).__name__}: {str(error).strip()[:200]}"
        raise _BadDocument(f"cannot be converted: {problem}") from None
    if text.startswith(("%PDF", "PK")):  # the converter returns the bytes it cannot parse
        raise _BadDocument("cannot be converted: the file is truncated")
    return text
