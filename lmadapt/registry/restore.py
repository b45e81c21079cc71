"""Joins what a version ships with the base it refers to, in one folder that any loader reads."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal

from lmadapt.core.errors import UserError
from lmadapt.core.files import folder_sha256
from lmadapt.registry.base_reference import BaseReference, locate_base

ADAPTER_CONFIG = "adapter_config.json"
NOT_THE_BASE = ("artifact_sha256", "precision")  # keys of a configuration


def served_precision(config: dict[str, Any]) -> Literal["nf4", "bf16"]:
    """The precision in which a version with this configuration was judged and runs.

    Earlier releases named none: an adapter ran over its base in NF4, a merged model in bf16.
    """
    return config.get("precision") or ("nf4" if "base_folder" in config else "bf16")


@contextmanager
def assembled(
    shipped: Path, config: dict[str, Any], name: str = "model"
) -> Iterator[tuple[Path, Path | None]]:
    """Inside the block: a folder called `name` with links to all files, and the base, if any.

    `config` holds `artifact_sha256`, `precision` and, for an adapter, the fields of BaseReference.
    Raises UserError when the shipped files or the base are not those that were registered.
    """
    expected = config["artifact_sha256"]
    if folder_sha256(shipped) != expected:
        raise UserError(
            f"{shipped}: not the files that were registered (SHA-256 {expected[:16]}…); "
            "they are not used"
        )
    base = None
    if "base_folder" in config:
        fields = {key: value for key, value in config.items() if key not in NOT_THE_BASE}
        base = locate_base(BaseReference(**fields))
    with TemporaryDirectory(prefix="lmadapt-") as temp:
        folder = Path(temp) / name
        folder.mkdir()
        _link_files(folder, base, shipped)
        if base:
            _write_adapter_config(folder, shipped, base)
        yield folder, base


def _link_files(folder: Path, base: Path | None, shipped: Path) -> None:
    """Link every file of both into `folder`; where a name is in both, the shipped file wins."""
    links = {}
    for source in (base, shipped):
        for file in source.iterdir() if source else ():
            links[file.name] = file
    for name, file in links.items():
        (folder / name).symlink_to(file.resolve())


def _write_adapter_config(folder: Path, shipped: Path, base: Path) -> None:
    """Replace the linked adapter_config.json by one that names the base where it is now."""
    adapter = json.loads((shipped / ADAPTER_CONFIG).read_text(encoding="utf-8"))
    content = json.dumps(adapter | {"base_model_name_or_path": str(base)})
    (folder / ADAPTER_CONFIG).unlink()
    (folder / ADAPTER_CONFIG).write_text(content, encoding="utf-8")
