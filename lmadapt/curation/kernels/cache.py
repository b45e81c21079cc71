"""Where numba keeps what it compiled, when it finds no place of its own."""

import logging
import os
import tempfile
from pathlib import Path

import numba

from lmadapt.core.files import private_folder

log = logging.getLogger(__name__)
CODE = Path(__file__).parent / "__pycache__"  # numba's first choice


def ensure_cache(code: Path = CODE) -> None:
    """Let numba use a private temporary folder where neither `code` nor the home is writable.

    Without any folder numba refuses to compile a function that is to be kept. It unpickles what it
    finds, so no other account may write there. A folder in NUMBA_CACHE_DIR that works stays.
    """
    home = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "numba"
    given: str = numba.config.CACHE_DIR  # type: ignore[attr-defined]
    if any(map(_is_writable, [*([Path(given)] if given else []), code, home])):
        return
    folder = private_folder() / "numba"
    numba.config.CACHE_DIR = str(folder)  # type: ignore[attr-defined]
    log.warning(
        "neither %s nor %s is writable: compiled code of curation is kept in %s. Where that folder "
        "is lost, the next run compiles again, which takes about half a minute; set "
        "NUMBA_CACHE_DIR to a folder that lasts",
        code.parent,
        home.parent,
        folder,
    )


def _is_writable(folder: Path) -> bool:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()
    except OSError:
        return False
    return True
