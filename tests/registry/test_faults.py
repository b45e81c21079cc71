"""Faults between a project and its registry: the next run completes what was interrupted."""

import errno
import json
import os
import pickle
import random
import shutil
from collections.abc import Iterator
from itertools import chain, count
from pathlib import Path
from typing import Any

import mlflow
import pytest
import requests
import torch
import yaml

from lmadapt.core.errors import Unavailable, UserError
from lmadapt.registry import registration
from lmadapt.registry.connection import connect
from lmadapt.registry.lock import registry_lock
from lmadapt.registry.verify import adapter_logits
from lmadapt.registry.versions import read_lineage, versions_of
from tests.adapted import judge_as, make_adapted_project, run_register
from tests.project import dvc, make_project, set_params
from tests.registry_server import MortalServer

CHANGING_TAGS = ("champion_since", "artifact_sha256")
SECRETS = {"AWS_SECRET_ACCESS_KEY": "PLANTED-env-1", "HF_TOKEN": "PLANTED-env-2"}


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path) -> Path:
    return make_adapted_project(tmp_path_factory.mktemp("faults") / "project", tiny_model)


@pytest.fixture
def project(tmp_path: Path, template: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    shutil.copytree(template, tmp_path / "project")
    monkeypatch.chdir(tmp_path / "project")
    return tmp_path / "project"


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[MortalServer]:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    (tmp_path / "server").mkdir()
    server = MortalServer(tmp_path / "server")
    yield server
    server.kill()


def state(address: str, model_name: str, project: Path) -> dict[str, Any]:
    """What is in the registry: versions, tags, aliases, runs, models and files, without ids."""
    client = connect(address, project)
    experiment = client.get_experiment_by_name("tests").experiment_id
    runs = client.search_runs([experiment], f"attributes.run_name = '{model_name}'")
    logged = [one for one in client.search_logged_models([experiment]) if one.name == model_name]
    versions = versions_of(client, model_name)
    names = [model.name for model in client.search_registered_models()]
    artifacts = [client.list_artifacts(version.run_id) for version, _ in versions]
    files = [file.path for file in chain.from_iterable(artifacts)]
    return {
        "versions": [(v.version, lasting_tags(v.tags), aliases) for v, aliases in versions],
        "runs": [run.info.status for run in runs],
        "logged models": [str(one.status) for one in logged],
        "files": sorted(files),
        "locks": [name for name in names if name == f"{model_name}.lock"],
    }


def lasting_tags(tags: dict[str, str]) -> dict[str, str]:
    """Without those that differ by the time, and by the model's name, which is in the card."""
    return {key: tag for key, tag in tags.items() if key not in CHANGING_TAGS}


@pytest.mark.parametrize(
    "kills", [4, pytest.param(20, marks=[pytest.mark.faults, pytest.mark.timeout(1500)])]
)
def test_a_server_killed_at_any_instant_leaves_what_an_undisturbed_one_leaves(
    project: Path, server: MortalServer, monkeypatch: pytest.MonkeyPatch, kills: int
) -> None:
    expected = adapter_logits(
        Path("models/pretrained"), Path("models/adapter"), scale=1.0, precision="nf4"
    )
    monkeypatch.setattr(registration, "adapter_logits", lambda *_, **__: expected)
    monkeypatch.setitem(registry_lock.__wrapped__.__kwdefaults__, "lease_seconds", 1.0)  # type: ignore[attr-defined]
    send, requested = requests.Session.send, count(1)
    fatal: tuple[int, bool] = (0, False)

    def count_and_kill(self: Any, *arguments: Any, **options: Any) -> Any:
        number = next(requested)  # artifacts are uploaded by several threads
        if (number, False) == fatal:
            server.kill()
        answer = send(self, *arguments, **options)
        if (number, True) == fatal:
            server.kill()  # after it did what was asked, before anyone heard of it
            raise requests.ConnectionError("killed")
        return answer

    monkeypatch.setattr(requests.Session, "send", count_and_kill)
    run_register(
        tracking_uri=server.address, model_name="first"
    )  # makes the experiment, so asks for more
    requested = count(1)
    run_register(tracking_uri=server.address)
    whole, undisturbed = next(requested) - 1, state(server.address, "tiny", project)
    generator = random.Random(0)
    for number, instant in enumerate(sorted(generator.sample(range(1, whole + 1), kills))):
        name = f"tiny{number}"
        requested, fatal = count(1), (instant, generator.random() < 0.5)
        with pytest.raises((Unavailable, UserError)):
            run_register(tracking_uri=server.address, model_name=name)
        assert not Path("metrics/register.json").exists()
        fatal = (0, False)
        server.start()
        before = connect(server.address, project).search_registered_models(f"name = '{name}'")
        for version in before[0].aliases.values() if before else ():
            assert (
                connect(server.address, project).get_model_version(name, version).tags["status"]
                == "verified"
            )
        run_register(tracking_uri=server.address, model_name=name)
        found = state(server.address, name, project)
        assert found == undisturbed, f"killed at request {instant} of {whole}"


@pytest.mark.faults
@pytest.mark.timeout(1500)
def test_dvc_repro_after_a_killed_server_leaves_what_an_undisturbed_one_leaves(
    tmp_path: Path, tiny_model: Path, server: MortalServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    project = make_project(tmp_path / "clone", tiny_model)
    made = make_adapted_project(tmp_path / "made", tiny_model)
    for part in ("models", "metrics", "reports"):
        shutil.copytree(made / part, project / part, dirs_exist_ok=True)
    monkeypatch.chdir(project)

    def registers(name: str, **fate: Any) -> tuple[bool, dict[str, Any]]:
        """Whether `dvc repro` of the stage succeeds, and the registry after it."""
        server.kill()
        server.start(**fate)
        own = {"model_name": name, "tracking_uri": server.address, "experiment": "tests"}
        set_params(project, {"register": own})
        done = dvc(project, "repro", "--single-item", "register")
        if fate:
            server.kill()
            server.start()
        found = state(server.address, name, project) if done.returncode == 0 else {}
        assert (done.returncode == 0) == Path("metrics/register.json").exists(), done.stdout
        return done.returncode == 0, found

    assert registers("first")[0]  # makes the experiment, so asks for more
    succeeded, undisturbed = registers("whole")
    assert succeeded
    for whole in count(20, 20):  # how many requests a registration makes, to the next twenty
        if registers(f"long{whole}", dies_at=whole)[0]:
            break
    generator = random.Random(0)
    for instant in sorted(generator.sample(range(1, whole), 10)):
        name = f"tiny{instant}"
        registers(name, dies_at=instant, answers_first=generator.random() < 0.5)
        assert registers(name) == (True, undisturbed), f"killed at request {instant}"


def test_a_full_disk_is_an_error_and_the_next_run_registers(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "/artifacts")

    with monkeypatch.context() as patch:
        patch.setattr(mlflow.MlflowClient, "log_model_artifacts", full)
        with pytest.raises(Unavailable, match="No space left on device"):
            run_register()
    assert connect("sqlite:///mlflow.db", project).search_registered_models() == []
    assert run_register()["aliases"] == ["candidate", "champion"]
    found = state("sqlite:///mlflow.db", "tiny", project)
    assert (found["runs"], len(found["logged models"]), len(found["versions"])) == (
        ["FINISHED"],
        1,
        1,
    )


def test_planted_secrets_are_neither_registered_nor_printed(
    project: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    for name, value in SECRETS.items():
        monkeypatch.setenv(name, value)
    params = yaml.safe_load(Path("params.yaml").read_text())
    params["register"]["tracking_uri"] = "postgresql://me:PLANTED-uri@host/db"
    params["fetch"]["sources"]["corpus"] = [
        {"path": "https://host/corpus.jsonl?token=PLANTED-query&x=1"}
    ]
    Path("params.yaml").write_text(yaml.safe_dump(params))
    stores = ["s3://key:PLANTED-remote@bucket/path"]
    monkeypatch.setattr(registration, "store_addresses", lambda _: stores)
    run_register()
    client = connect("sqlite:///mlflow.db", project)
    ((version, _),) = versions_of(client, "tiny")
    told = [
        json.dumps(
            [version.tags, version.description, client.get_run(version.run_id).to_dictionary()]
        ),
        *capfd.readouterr(),
    ]
    stored = [file.read_bytes() for file in (project / "mlartifacts").rglob("*") if file.is_file()]
    stored.append((project / "mlflow.db").read_bytes())
    assert "***" in "".join(
        file.decode(errors="ignore") for file in stored
    )  # the places were reached
    assert not [text for text in told if "PLANTED" in text]
    assert not [file for file in stored if b"PLANTED" in file]


class Trap:
    def __reduce__(self) -> Any:
        return (Path.touch, (Path("/tmp/unpickled"),))


def test_nothing_from_the_registry_is_unpickled(
    project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    touched = tmp_path / "unpickled"
    monkeypatch.setattr(Trap, "__reduce__", lambda self: (Path.touch, (touched,)))
    run_register()
    model = next((project / "mlartifacts/models").iterdir()) / "artifacts"
    (model / "artifacts/model/adapter_model.bin").write_bytes(pickle.dumps(Trap()))
    (model / "artifacts/model/adapter_model.safetensors").unlink()
    with pytest.raises(UserError, match="not the files that were registered"):
        mlflow.pyfunc.load_model("models:/tiny@champion")
    (model / "python_model.pkl").write_bytes(pickle.dumps(Trap()))
    file = model / "MLmodel"
    described = yaml.safe_load(file.read_text())
    flavor = described["flavors"]["python_function"]
    flavor |= {"python_model": "python_model.pkl", "cloudpickle_version": "3"}
    del flavor["model_code_path"]
    file.write_text(yaml.safe_dump(described))
    with pytest.raises(mlflow.MlflowException, match="MLFLOW_ALLOW_PICKLE_DESERIALIZATION"):
        mlflow.pyfunc.load_model("models:/tiny@champion")
    assert not touched.exists()


def test_a_merged_model_is_one_folder_that_needs_no_base_and_loads_back_equal(
    project: Path,
) -> None:
    judge_as("merged", "bf16")
    metrics = run_register(artifact="merged")
    assert metrics["aliases"] == ["candidate", "champion"]
    shutil.rmtree("models/pretrained")
    loaded = mlflow.pyfunc.load_model("models:/tiny@champion").unwrap_python_model()
    assert loaded.model.dtype == torch.bfloat16
    assert not hasattr(loaded.model, "peft_config")
    client = connect("sqlite:///mlflow.db", project)
    lineage = read_lineage(client, client.get_model_version("tiny", "1"))
    assert lineage.artifact == "merged"
    assert lineage.merge_difference is not None
    assert lineage.merge_difference.kl_nats <= 0.01


def test_adapter_and_merged_are_two_versions_of_the_same_content(project: Path) -> None:
    versions = []
    for kind in ("adapter", "merged", "adapter"):
        judge_as(kind, "nf4")
        versions.append(run_register(artifact=kind)["version"])
    assert versions == [1, 2, 1]


@pytest.mark.parametrize("artifact", ["adapter", "merged"])
def test_the_scale_that_was_judged_is_the_scale_that_is_shipped(
    project: Path, artifact: str
) -> None:
    judge_as(artifact, "nf4")
    figures = json.loads(Path("metrics/evaluate.json").read_text())
    prompts = [f"What is number {i}?" for i in range(6)]
    run_register(artifact=artifact)
    whole = mlflow.pyfunc.load_model("models:/tiny@candidate").predict(prompts)
    Path("metrics/evaluate.json").write_text(json.dumps(figures | {"alpha_scale": 0.25}))
    assert run_register(artifact=artifact)["version"] == 2
    assert mlflow.pyfunc.load_model("models:/tiny@candidate").predict(prompts) != whole
    shipped = next(
        (project / "mlartifacts/models").glob("*/artifacts/artifacts/model/adapter_config.json"),
        None,
    )
    scales = {
        json.loads(file.read_text())["lora_alpha"]
        for file in (project / "mlartifacts/models").glob(
            "*/artifacts/artifacts/model/adapter_config.json"
        )
    }
    assert (shipped is None) == (artifact == "merged")
    assert scales == ({8, 2.0} if artifact == "adapter" else set())
