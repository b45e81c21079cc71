"""What a version ships and the base it refers to, put together into one folder that every loader understands."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from lmadapt.core.errors import UserError
from lmadapt.core.files import folder_sha256
from lmadapt.registry.base_reference import BaseReference, locate_base


@contextmanager
def assembled(
    shipped: Path, config: dict[str, Any], name: str = "model"
) -> Iterator[tuple[Path, Path | None]]:
    """A folder called `name` of links to all files, for as long as the block lasts, and the base in it, if any.

    `config` holds `artifact_sha256` and the fields of BaseReference, none of these for a merged model. Raises
    UserError when the shipped files or the base are not what was registered.
    """
    expected, base = config["artifact_sha256"], None
    if folder_sha256(shipped) != expected:
        raise UserError(
            f"{shipped}: not the files that were registered (SHA-256 {expected[:16]}…); they are not used"
        )
    if "base_folder" in config:
        fields = {key: value for key, value in config.items() if key != "artifact_sha256"}
        base = locate_base(BaseReference(**fields))
    with TemporaryDirectory(prefix="lmadapt-") as temp:
        folder = Path(temp) / name
        folder.mkdir()
        links = {
            file.name: file for source in (base, shipped) if source for file in source.iterdir()
        }
        for file, source in links.items():
            (folder / file).symlink_to(source.resolve())
        if base:
            adapter = json.loads((shipped / "adapter_config.json").read_text(encoding="utf-8"))
            (folder / "adapter_config.json").unlink()
            content = json.dumps(adapter | {"base_model_name_or_path": str(base)})
            (folder / "adapter_config.json").write_text(content, encoding="utf-8")
        yield folder, base
