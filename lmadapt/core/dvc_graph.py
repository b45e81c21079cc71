"""Paths of the pipeline, read from dvc.yaml, where they stand."""

import shlex
from itertools import pairwise
from pathlib import Path

from ruamel.yaml import YAML

from lmadapt.core.errors import UserError


def stage_paths(stage: str, graph: Path = Path("dvc.yaml")) -> dict[str, Path]:
    """The paths a stage is called with, by option: {"base": Path("models/base"), …}.

    Raises UserError when there is no dvc.yaml, which means that this is not the project's folder, or no such stage.
    """
    if not graph.is_file():
        raise UserError(f"{graph}: no such file; run lmadapt in the folder of the project")
    stages = YAML(typ="safe").load(graph.read_text(encoding="utf-8"))["stages"]
    if stage not in stages:
        raise UserError(f"{graph}: has no stage `{stage}`; present: {', '.join(stages)}")
    words = shlex.split(stages[stage]["cmd"])
    return {option[2:]: Path(value) for option, value in pairwise(words) if option.startswith("--")}
