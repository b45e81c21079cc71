"""Paths of the pipeline, read from dvc.yaml, where they stand."""

import shlex
from itertools import pairwise
from pathlib import Path

from ruamel.yaml import YAML

from lmadapt.errors import UserError


def stage_paths(stage: str, graph: Path = Path("dvc.yaml")) -> dict[str, Path]:
    """The paths a stage is called with, by option: {"base": Path("models/base"), …}.

    Raises UserError when there is no dvc.yaml, which means that this is not the project's folder.
    """
    if not graph.is_file():
        raise UserError(f"{graph}: no such file; run lmadapt in the folder of the project")
    command = YAML(typ="safe").load(graph.read_text(encoding="utf-8"))["stages"][stage]["cmd"]
    words = shlex.split(command)
    return {option[2:]: Path(value) for option, value in pairwise(words) if option.startswith("--")}
