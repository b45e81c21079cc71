import shutil
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import mlflow
import mlflow.pyfunc
import pytest
import torch
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import TEMPORARILY_UNAVAILABLE
from ruamel.yaml import YAML
from safetensors.torch import save_file

from lmadapt.core.errors import Unavailable, UserError
from lmadapt.core.sections import load_section
from stages.register import RegisterParams
from tests.adapted import (
    REGISTER,
    ROOT,
    make_adapted_project,
    run_register,
    write_evaluation,
)
from tests.adapter import make_adapter


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path) -> Path:
    """A project with an empty registry, because making its tables takes a second."""
    folder = make_adapted_project(tmp_path_factory.mktemp("template"), tiny_model)
    client(folder).search_registered_models()
    return folder


@pytest.fixture
def project(tmp_path: Path, template: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    folder = tmp_path / "project"
    shutil.copytree(template, folder)
    monkeypatch.chdir(folder)
    return folder


def client(project: Path, database: str = "mlflow.db") -> mlflow.MlflowClient:
    address = f"sqlite:///{project}/{database}"
    return mlflow.MlflowClient(address, registry_uri=address)


def test_a_shipped_version_gets_both_aliases_and_stable_metrics(project: Path) -> None:
    metrics = run_register()
    assert metrics["version"] == 1
    assert metrics["aliases"] == ["candidate", "champion"]
    assert set(metrics) == {
        "model_name",
        "version",
        "aliases",
        "adapter_sha256",
        "base_sha256",
        "exam",
    }
    assert metrics["exam"]["models_judged"] == 1
    version = client(project).get_model_version_by_alias("tiny", "champion")
    assert version.tags["status"] == "verified"
    assert version.tags["verdict"] == "SHIP"
    assert version.tags["domain_accuracy_adapted"] == "0.6000"
    assert version.tags["adapter_sha256"] == metrics["adapter_sha256"]


def test_a_held_version_is_refused_the_champion_alias_and_says_why(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run_register()
    write_evaluation(project, "HOLD")
    assert run_register()["aliases"] == ["candidate"]
    assert (
        "It is not champion: the verdict is HOLD: general accuracy fell" in capsys.readouterr().out
    )
    registered = client(project).get_registered_model("tiny")
    assert {alias: int(version) for alias, version in registered.aliases.items()} == {
        "champion": 1,
        "candidate": 2,
    }


def test_the_stage_starts_without_mlflow_and_torch() -> None:
    program = (
        "import sys, stages.register;"
        "print(sorted({'mlflow', 'numpy', 'pandas', 'pyarrow', 'torch'} & sys.modules.keys()))"
    )
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_same_content_twice_is_one_version(project: Path) -> None:
    assert run_register() == run_register()
    assert len(client(project).search_model_versions("name = 'tiny'")) == 1


@pytest.mark.parametrize("outcome", ["SHIP", "HOLD"])
def test_registering_again_does_not_import_mlflow(
    project: Path, outcome: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write_evaluation(project, outcome)
    first, told = run_register(), capsys.readouterr().out
    monkeypatch.setattr(mlflow, "MlflowClient", None)
    assert run_register() == first
    assert capsys.readouterr().out == told


def test_the_next_registration_corrects_an_alias_moved_by_hand(project: Path) -> None:
    first = run_register()
    client(project).delete_registered_model_alias("tiny", "champion")
    assert run_register() == first
    client(project).set_model_version_tag("tiny", "1", "status", "broken")
    assert run_register()["version"] == 2


def test_another_adapter_is_another_version(project: Path, tiny_model: Path) -> None:
    run_register()
    shutil.rmtree("models/adapter")
    make_adapter(tiny_model, Path("models/adapter"), seed=1)
    assert run_register()["version"] == 2


def test_a_version_holds_the_adapter_but_no_base_weights(project: Path) -> None:
    run_register()
    weights = [
        file
        for file in (project / "mlartifacts").rglob("*")
        if file.suffix in {".safetensors", ".bin"}
    ]
    assert [file.name for file in weights] == ["adapter_model.safetensors"]
    assert not list((project / "mlartifacts").rglob("tokenizer.json"))  # it is the base's
    requirements = next((project / "mlartifacts").rglob("requirements.txt")).read_text().split()
    assert f"torch=={torch.__version__.partition('+')[0]}" in requirements
    assert all("==" in requirement for requirement in requirements)


def test_lineage_leads_from_a_version_to_params_data_and_verdict(project: Path) -> None:
    lock = {
        "stages": {
            "pretrain": {
                "cmd": "x",
                "outs": [{"path": "models/pretrained", "hash": "md5", "md5": "ab.dir"}],
            }
        }
    }
    YAML().dump(lock, Path("dvc.lock"))
    Path("requirements.lock").write_text("torch==2\n")
    run_register(tracking_uri="sqlite:///mlflow.db")
    version = client(project).get_model_version("tiny", "1")
    lineage = mlflow.artifacts.load_dict(f"runs:/{version.run_id}/lineage.json")
    assert lineage["stages"]["pretrain"]["outs"] == {"models/pretrained": "ab.dir"}
    assert lineage["params"]["sft"]["lora_rank"] == 16
    assert lineage["verdict"]["outcome"] == "SHIP"
    assert lineage["requirements_lock_sha256"] == version.tags["requirements_lock_sha256"]


def test_a_base_that_is_nowhere_is_named_in_the_error(project: Path) -> None:
    run_register()
    config = project / "models/pretrained/generation_config.json"
    config.write_text(config.read_text() + "\n")
    with pytest.raises(
        UserError, match=r"models/pretrained: the base model of this version .* has changed since"
    ):
        mlflow.pyfunc.load_model("models:/tiny@champion")
    copy = project / "models/base"
    assert mlflow.pyfunc.load_model(
        "models:/tiny@champion", model_config={"base_folder": str(copy)}
    )


def test_a_version_that_loads_back_changed_is_broken_and_gets_no_alias(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def save_damaged(weights: dict[str, torch.Tensor], file: Path, **options: Any) -> None:
        save_file({name: tensor * 1.01 for name, tensor in weights.items()}, file, **options)

    monkeypatch.setattr("lmadapt.registry.export.save_file", save_damaged)
    difference = "its logits differ: .* Greatest absolute difference: [0-9.]+"
    with pytest.raises(
        UserError, match=f"tiny version 1 is not the model that was trained: {difference}"
    ):
        run_register()
    assert client(project).get_model_version("tiny", "1").tags["status"] == "broken"
    assert client(project).get_registered_model("tiny").aliases == {}
    assert not Path("metrics/register.json").exists()
    monkeypatch.setattr("lmadapt.registry.export.save_file", save_file)
    assert run_register()["version"] == 2


def test_the_next_run_verifies_a_version_whose_check_was_interrupted(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("lmadapt.registry.registration.verify", interrupt)
        with pytest.raises(KeyboardInterrupt):
            run_register()
    assert client(project).get_registered_model("tiny").aliases == {}
    assert run_register()["version"] == 1
    assert client(project).get_model_version("tiny", "1").tags["status"] == "verified"


@pytest.mark.parametrize(
    "problem",
    [
        ConnectionError("http://me:hidden@host"),
        MlflowException("http://h?token=hidden", TEMPORARILY_UNAVAILABLE),
    ],
)
def test_the_next_run_verifies_a_version_that_could_not_be_loaded_back_now(
    project: Path, monkeypatch: pytest.MonkeyPatch, problem: Exception
) -> None:
    def fail(_: str) -> None:
        raise problem

    with monkeypatch.context() as patch:
        patch.setattr(mlflow.pyfunc, "load_model", fail)
        with pytest.raises(Unavailable, match="registry sqlite:") as caught:
            run_register()
    assert "hidden" not in str(caught.value)
    assert "status" not in client(project).get_model_version("tiny", "1").tags
    assert client(project).get_registered_model("tiny").aliases == {}
    assert run_register()["version"] == 1


@pytest.mark.parametrize("kind", [ValueError, FileNotFoundError])
def test_a_version_that_cannot_be_loaded_at_all_is_broken_and_no_password_shows(
    project: Path, monkeypatch: pytest.MonkeyPatch, kind: type[Exception]
) -> None:
    def fail(_: str) -> None:
        raise kind("postgresql://me:hidden@host/db")

    monkeypatch.setattr(mlflow.pyfunc, "load_model", fail)
    with pytest.raises(UserError, match=r"loading it back failed: postgresql://\*\*\*@host/db"):
        run_register()
    assert client(project).get_model_version("tiny", "1").tags["status"] == "broken"


def test_the_model_name_names_the_registered_model(project: Path) -> None:
    assert run_register(model_name="other")["model_name"] == "other"
    assert [model.name for model in client(project).search_registered_models()] == ["other"]


def test_the_environment_overrides_the_tracking_uri(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copy("mlflow.db", "second.db")
    shutil.copy("mlflow.db", "third.db")
    run_register(tracking_uri="sqlite:///second.db")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{project}/third.db")
    run_register(tracking_uri="sqlite:///second.db", model_name="overridden")
    names = [
        [model.name for model in client(project, database).search_registered_models()]
        for database in ("mlflow.db", "second.db", "third.db")
    ]
    assert names == [[], ["tiny"], ["overridden"]]


def test_the_experiment_holds_the_runs(project: Path) -> None:
    run_register(experiment="elsewhere")
    experiment = client(project).get_experiment_by_name("elsewhere")
    assert experiment.artifact_location == (project / "mlartifacts").as_uri()
    assert len(client(project).search_runs([experiment.experiment_id])) == 1


def test_a_registry_that_does_not_answer_exits_with_the_code_for_a_retry(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with pytest.raises(Unavailable, match=r"registry http://\*\*\*@127.0.0.1:9") as caught:
        run_register(tracking_uri="http://me:secret@127.0.0.1:9")
    assert caught.value.exit_code == 75
    assert "secret" not in str(caught.value)


def test_a_silent_registry_is_given_up_after_the_timeout(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "1")
    with (
        socket.create_server(("127.0.0.1", 0)) as silent,
        pytest.raises(Unavailable, match="timed out"),
    ):
        run_register(tracking_uri=f"http://127.0.0.1:{silent.getsockname()[1]}")
    assert not Path("metrics/register.json").exists()


def test_a_registry_address_of_an_unknown_kind_is_refused(project: Path) -> None:
    with pytest.raises(UserError, match="foo://bar") as caught:
        run_register(tracking_uri="foo://bar")
    assert not isinstance(caught.value, Unavailable)


def test_an_evaluation_without_a_verdict_is_refused(project: Path) -> None:
    Path("metrics/evaluate.json").write_text("{}")
    with pytest.raises(UserError, match=r"metrics/evaluate.json: judged is missing"):
        run_register()


def test_a_model_name_that_no_address_can_hold_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "params.yaml"
    YAML().dump({"register": {**REGISTER, "model_name": "a/b"}}, file)
    with pytest.raises(UserError, match=r"register.model_name: .* got 'a/b'"):
        load_section(RegisterParams, "register", file)
