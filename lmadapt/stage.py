"""Run one stage as a program: its section of params.yaml, its paths from the command line."""

import argparse
import inspect
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from lmadapt.environment import prepare_environment
from lmadapt.errors import UserError
from lmadapt.sections import load_section

PARAMS_FILE = Path("params.yaml")


def run(stage: Callable[..., None], *, offline: bool = True) -> None:
    """Call `stage(params, **paths)` and exit: 0 when it returns, the error's exit code when it raises UserError.

    The section read is the one named like the function, as the type of its argument `params`; every other
    argument is a path and becomes a required option `--name PATH`. dvc.yaml states them all.
    """
    prepare_environment(offline=offline)
    arguments = inspect.signature(stage).parameters
    parser = argparse.ArgumentParser(prog=f"python -m stages.{stage.__name__}", description=inspect.getdoc(stage))
    for name in arguments:
        if name != "params":
            parser.add_argument(f"--{name.replace('_', '-')}", type=Path, required=True, metavar="PATH")
    paths: dict[str, Any] = vars(parser.parse_args())
    try:
        stage(load_section(arguments["params"].annotation, stage.__name__, PARAMS_FILE), **paths)
    except UserError as error:
        print(f"{stage.__name__} stopped: {error}", file=sys.stderr, flush=True)
        sys.exit(error.exit_code)
