"""What a version carries of lmadapt, so that a process loads it without the project."""

import ast
from pathlib import Path

from lmadapt.registry.upload import LIBRARY, LOADER, MODEL_CODE, version_tags
from tests.adapted import make_lineage


def imported_files(name: str) -> set[str]:
    """The files of lmadapt that a file imports, anywhere in its code."""
    found = set()
    for node in ast.walk(ast.parse((LIBRARY / name).read_text())):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("lmadapt."):
            module = Path(*(node.module or "").split(".")[1:])
            found.add(str(module.with_suffix(".py")))
    return found


def test_a_version_carries_every_file_that_its_code_imports() -> None:
    needed: set[str] = set()
    waiting = imported_files(MODEL_CODE)
    while waiting:
        name = waiting.pop()
        needed.add(name)
        waiting |= imported_files(name) - needed
    rooms = {f"{Path(name).parent}/__init__.py" for name in needed}
    assert set(LOADER) == needed | rooms | {"__init__.py"}


def test_a_version_is_tagged_with_hashes_verdict_and_figures() -> None:
    lineage = make_lineage(figures={"domain_change": 0.03719})
    tags = version_tags(lineage, "0" * 64)
    assert tags["content_sha256"] == "0" * 64
    assert tags["verdict"] == "SHIP"
    assert tags["git_dirty"] == "false"
    assert tags["domain_change"] == "0.0372"
    assert "requirements_lock_sha256" not in tags
    assert all(isinstance(value, str) for value in tags.values())
