"""A version in a process that knows the registry and nothing of the project that made it."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from ruamel.yaml import YAML

from lmadapt.registry.verify import PROMPTS, adapter_logits
from tests.adapted import Row, make_adapted_project, run_register

# Runs in /tmp, and its environment names only the registry: answers and logits of the champion, and
# its answers again after the base has been removed.
ELSEWHERE = """
import json, mlflow, shutil, sys
from pathlib import Path
import pandas as pd, torch
project = Path(sys.argv[1])
champion = mlflow.pyfunc.load_model("models:/tiny@champion")
import lmadapt
from lmadapt.models.chat import encode_prompt
prompts = [f"What is number {i} of {i * 7}?" for i in range(6)]
messages = [json.dumps([{"role": "user", "content": prompt}]) for prompt in prompts]
twelve = {"max_new_tokens": 12}
answers = {
    "code": lmadapt.__file__,
    "default": champion.predict(prompts),
    "twelve": champion.predict(prompts, params=twelve),
    "from table": champion.predict(pd.DataFrame({"prompt": prompts}), params=twelve),
    "from messages": champion.predict(messages, params=twelve),
    "hot": champion.predict(prompts, params={**twelve, "temperature": 9.0}),
}
loaded = champion.unwrap_python_model()
conversations = [[{"role": "user", "content": prompt}] for prompt in json.loads(sys.argv[2])]
tokens = [encode_prompt(loaded.tokenizer, one) for one in conversations]
logits = [loaded.model(input_ids=torch.tensor([ids])).logits.detach() for ids in tokens]
torch.save(logits, project / "logits.pt")
shutil.rmtree(project / "models/pretrained")
restored = mlflow.pyfunc.load_model("models:/tiny@champion")
answers["restored"] = restored.predict(prompts, params=twelve)
print(json.dumps(answers))
"""


@pytest.fixture(scope="module")
def elsewhere(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path) -> tuple[Path, Row]:
    """A project whose base is in the DVC cache only, and what ELSEWHERE told of its champion."""
    project = make_adapted_project(tmp_path_factory.mktemp("elsewhere") / "project", tiny_model)
    (project / "dvc.yaml").write_text("stages: {}\n")
    git, dvc = ["git"], [sys.executable, "-m", "dvc"]
    for command in (
        [*git, "init", "-q"],
        [*dvc, "init", "-q"],
        [*dvc, "add", "-q", "models/pretrained"],
    ):
        subprocess.run(command, cwd=project, check=True)
    md5 = YAML().load(project / "models/pretrained.dvc")["outs"][0]["md5"]
    locked = {"pretrain": {"outs": [{"path": "models/pretrained", "md5": md5}]}}
    YAML().dump({"stages": locked}, project / "dvc.lock")
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        patch.chdir(project)
        run_register()
        expected = adapter_logits(
            Path("models/pretrained"), Path("models/adapter"), scale=1.0, precision="nf4"
        )
    torch.save(expected, project / "expected.pt")
    done = subprocess.run(
        [sys.executable, "-c", ELSEWHERE, str(project), json.dumps(PROMPTS)],
        cwd="/tmp",
        env={
            "PATH": os.environ["PATH"],
            "MLFLOW_TRACKING_URI": f"sqlite:///{project}/mlflow.db",
            "TMPDIR": str(project),
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return project, json.loads(done.stdout.splitlines()[-1])


def test_a_version_loads_in_a_process_without_this_project_on_its_path(
    elsewhere: tuple[Path, Row],
) -> None:
    project, answers = elsewhere
    assert answers["code"].startswith(str(project / "mlartifacts"))
    assert len(answers["twelve"]) == 6
    assert answers["twelve"] == answers["from table"] == answers["from messages"]
    assert answers["hot"] != answers["twelve"]
    assert len("".join(answers["twelve"])) < len("".join(answers["default"]))


def test_a_process_that_knows_only_the_registry_gets_the_trained_logits(
    elsewhere: tuple[Path, Row],
) -> None:
    expected, found = (torch.load(elsewhere[0] / f"{name}.pt") for name in ("expected", "logits"))
    assert len(found) == len(PROMPTS)
    assert all(torch.equal(one, other) for one, other in zip(found, expected, strict=True))


def test_a_removed_base_is_restored_from_the_dvc_cache(elsewhere: tuple[Path, Row]) -> None:
    project, answers = elsewhere
    assert not (project / "models/pretrained").exists()
    assert answers["restored"] == answers["twelve"]
    assert list(project.glob("lmadapt-*/base-*/config.json"))
