"""Files and folders that appear whole or not at all, their SHA-256, and a private folder."""

import atexit
import glob
import hashlib
import json
import os
import shutil
import socket
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from lmadapt.core.errors import UserError


@contextmanager
def atomic_file(target: Path) -> Iterator[Path]:
    """Yield a temporary path; it becomes `target` when the block succeeds, else it is removed."""
    temporary = _temporary(target)
    try:
        yield temporary
        temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def atomic_folder(target: Path) -> Iterator[Path]:
    """Yield an empty temporary folder; it replaces `target` when the block succeeds."""
    temporary = _temporary(target)
    temporary.mkdir()
    try:
        yield temporary
        if target.exists():
            shutil.rmtree(target)
        temporary.replace(target)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _temporary(target: Path) -> Path:
    """A free name beside `target`, whose folder is made; what killed processes left is removed.

    A name holds the machine and the process: folders may be shared, and two machines may both have
    a process of one number.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    beginning = f".{target.name}.{socket.gethostname()}-"
    for left in target.parent.glob(f"{glob.escape(beginning)}*.tmp"):
        process = left.name.removeprefix(beginning).removesuffix(".tmp")
        if process == str(os.getpid()) or not _is_alive(process):
            shutil.rmtree(left) if left.is_dir() else left.unlink(missing_ok=True)
    return target.with_name(f"{beginning}{os.getpid()}.tmp")


def _is_alive(process: str) -> bool:
    try:
        os.kill(int(process), 0)
    except ProcessLookupError:
        return False
    except (PermissionError, ValueError):
        return True
    return True


def write_json(target: Path, content: Any) -> None:
    """Write JSON with sorted keys: equal content gives an equal file. NaN raises ValueError."""
    with atomic_file(target) as temporary:
        text = json.dumps(content, indent=2, sort_keys=True, ensure_ascii=False, allow_nan=False)
        temporary.write_text(text + "\n", encoding="utf-8")


def read_json(source: Path) -> Any:
    """Return the content of a JSON file.

    Raises UserError, which names the file, when it is missing, and file and line when it is broken.
    """
    try:
        return json.loads(source.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"{source}: no such file; `dvc repro` makes it") from None
    except json.JSONDecodeError as error:
        raise UserError(f"{source}:{error.lineno}: not valid JSON: {error.msg}") from None


def file_sha256(source: Path) -> str:
    """Return the hexadecimal SHA-256 of a file's bytes."""
    with source.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def folder_sha256(folder: Path) -> str:
    """Return the hexadecimal SHA-256 over relative names and contents of all files in `folder`."""
    digest = hashlib.sha256()
    for file in sorted(path for path in folder.rglob("*") if path.is_file()):
        digest.update(f"{file.relative_to(folder).as_posix()}\0{file_sha256(file)}\n".encode())
    return digest.hexdigest()


def private_folder() -> Path:
    """A folder for temporary files that only this account may enter.

    It is `lmadapt-UID`, which the next process finds again. Where another account made that name
    first, or may enter it, it is a new folder that goes away with this process.
    """
    kept = Path(tempfile.gettempdir()) / f"lmadapt-{os.getuid()}"
    with suppress(FileExistsError):
        kept.mkdir(mode=0o700)
    found = kept.lstat()
    private = stat.S_ISDIR(found.st_mode) and not stat.S_IMODE(found.st_mode) & 0o077
    if private and found.st_uid == os.getuid():
        return kept
    own = Path(tempfile.mkdtemp(prefix="lmadapt-"))
    atexit.register(shutil.rmtree, own, ignore_errors=True)
    return own
