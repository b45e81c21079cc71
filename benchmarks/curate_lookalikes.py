"""Lines of installed packages that look like personal data and hold none.

The rules were not tuned on them. What makes a line one of its kind is written in it: a file's name,
a requirement, a number in code. Lines with an email address or a `+` before a number are left out,
because examples in code have real ones.
"""

import ipaddress
import random
import re
import sysconfig
from collections.abc import Callable, Iterator
from pathlib import Path

MAX_CHARACTERS = 300
FILES = 4  # looked through for each line wanted: enough for most kinds
QUAD = re.compile(r"(?<![\w.])\d{1,3}(?:\.\d{1,3}){3}(?![\w.])")
VERSION = re.compile(r"(?i)(version|release|==|>=|~=)\s*v?\d+\.\d+\.\d+")
HARDLY_SECRET = re.compile(r"(?i)\b(token|password|passwd|secret|api_?key)\w*\b.{0,3}[=:]|token is")
LITERAL = re.compile(r"\b[1-9]\d{6,11}\b")
ADDRESSED = re.compile(r"\w@\w|\+\d")


def find_lookalikes(count: int, seed: int) -> dict[str, list[str]]:
    """Up to `count` different lines of each kind, drawn from all that are installed."""
    root = Path(sysconfig.get_path("purelib"))
    draw = random.Random(seed)

    def some_files(pattern: str) -> list[Path]:
        files = sorted(root.glob(pattern))
        return draw.sample(files, k=min(FILES * count, len(files)))

    records, code = some_files("*.dist-info/RECORD"), some_files("*/*.py")
    found = {
        "file names": _some(records, bool, _first_cell),
        "versions": _some(some_files("*.dist-info/METADATA"), VERSION.search),
        "numbers in code": _some(code, LITERAL.search),
        "names of secrets in code": _some(code, HARDLY_SECRET.search),
        "local addresses and masks": _some(code, _only_local),
    }
    lines = {kind: sorted(own) for kind, own in found.items()}
    return {kind: draw.sample(own, k=min(count, len(own))) for kind, own in lines.items()}


def _some(
    files: list[Path], fits: Callable[[str], object], part: Callable[[str], str] = str.strip
) -> set[str]:
    lines = (line for line in _lines(files) if len(line) < MAX_CHARACTERS and fits(line))
    return {part(line) for line in lines if not ADDRESSED.search(line)}


def _lines(files: list[Path]) -> Iterator[str]:
    for file in files:
        yield from file.read_text(encoding="utf-8", errors="replace").splitlines()


def _first_cell(line: str) -> str:
    return line.partition(",")[0]


def _only_local(line: str) -> bool:
    """Whether a line has addresses with four numbers, and all of them are private or no machine."""
    quads = QUAD.findall(line)
    try:
        return bool(quads) and not any(map(_is_global, quads))
    except ValueError:
        return False


def _is_global(quad: str) -> bool:
    documented = quad.startswith(("192.0.2.", "198.51.100.", "203.0.113."))
    return documented or ipaddress.ip_address(quad).is_global
