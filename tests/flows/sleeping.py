"""A project for sweeps whose stages only wait, so that many run on few cores."""

from typing import Any

from tests.flows.agents import Team

GRAPH = """
stages:
  prepare:
    cmd: echo prepare >> $RAN && sleep SHARED && cp source.txt data.txt
    deps: [source.txt]
    outs: [data.txt]
  train:
    cmd: python train.py
    deps: [data.txt, train.py]
    params: [train]
    metrics: [metrics/train.json]
"""
TRAIN = """
import json, os, sys, time
from pathlib import Path
rate = int(Path("params.yaml").read_text().split("rate:")[1].split()[0])
with open(os.environ["RAN"], "a") as log:
    log.write(f"train {rate} in {Path.cwd().name}\\n")
time.sleep(SECONDS)
if rate == FAILING:
    sys.exit("this rate does not work")
Path("metrics").mkdir(exist_ok=True)
Path("metrics/train.json").write_text(json.dumps({"rate": rate}))
"""


def rates(count: int) -> list[dict[str, Any]]:
    """This many params sets for the project below."""
    return [{"train.rate": number} for number in range(1, count + 1)]


def push_sleeping(one: Team, seconds: float, shared_seconds: float, failing: int = -1) -> str:
    """Push a graph in which sets share `prepare` and each has its own `train`; the commit."""
    return one.push(
        dvc_yaml=GRAPH.replace("SHARED", str(shared_seconds)),
        train_py=TRAIN.replace("SECONDS", str(seconds)).replace("FAILING", str(failing)),
        params_yaml="train:\n  rate: 0\n",
        _gitignore="__pycache__/\n.lmadapt/\n/data.txt\n/metrics/\n",
    )
