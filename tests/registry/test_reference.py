"""The version in the registry that a verdict compares with, and versions that run as judged."""

import json
import shutil
from pathlib import Path
from typing import Any

import mlflow
import pytest
import torch

from lmadapt.core.errors import UserError
from lmadapt.evaluation.variants import ModelVariant
from lmadapt.models.loading import load_for_inference
from lmadapt.registry.export import export_merged
from lmadapt.registry.reference import open_reference
from tests.adapted import judge_as, make_adapted_project, run_register
from tests.adapter import make_adapter

ADDRESS = "sqlite:///mlflow.db"


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path) -> Path:
    folder = make_adapted_project(tmp_path_factory.mktemp("reference") / "project", tiny_model)
    client(folder).search_registered_models()
    return folder


@pytest.fixture
def project(tmp_path: Path, template: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    folder = tmp_path / "project"
    shutil.copytree(template, folder)
    monkeypatch.chdir(folder)
    return folder


def client(project: Path) -> mlflow.MlflowClient:
    address = f"sqlite:///{project}/mlflow.db"
    return mlflow.MlflowClient(address, registry_uri=address)


def opened(name: str, precision: Any = "bf16") -> Any:
    return open_reference(name, precision, base=Path("models/base"), tracking_uri=ADDRESS)


def same(one: Any, other: Any) -> bool:
    tokens = torch.tensor([[5, 6, 7, 8]])
    with torch.inference_mode():
        return torch.equal(one(input_ids=tokens).logits, other(input_ids=tokens).logits)


@pytest.mark.parametrize(
    ("artifact", "precision"),
    [("adapter", "nf4"), ("adapter", "bf16"), ("merged", "bf16"), ("merged", "nf4")],
)
def test_a_version_is_the_reference_and_is_loaded_as_it_was_judged(
    project: Path, artifact: str, precision: Any
) -> None:
    judge_as(artifact, precision)
    run_register(artifact=artifact)
    judged = load_for_inference(
        Path("models/pretrained"),
        precision=precision,
        adapter=Path("models/adapter"),
        merged=artifact == "merged",
    )
    served = mlflow.pyfunc.load_model("models:/tiny@champion").unwrap_python_model().model
    with opened("models:/tiny@champion") as reference:
        assert (reference.name, reference.version) == ("models:/tiny@champion", 1)
        assert reference.variant.precision == precision
        assert same(load_for_inference(**vars(reference.variant)), judged)
    assert same(served, judged)
    tags = client(project).get_model_version("tiny", "1").tags
    assert (tags["artifact"], tags["precision"]) == (artifact, precision)
    assert tags["reference"] == "base, bf16"


def test_a_version_that_is_not_verified_is_no_reference(project: Path) -> None:
    run_register()
    client(project).set_model_version_tag("tiny", "1", "status", "broken")
    with (
        pytest.raises(UserError, match="version 1 is not verified, so it is no reference"),
        opened("models:/tiny@champion"),
    ):
        pass


def test_an_alias_that_points_to_nothing_is_named(project: Path) -> None:
    with (
        pytest.raises(UserError, match=r"'models:/tiny@champion': no such version"),
        opened("models:/tiny@champion"),
    ):
        pass


def test_the_base_is_the_reference_by_default_in_its_own_precision(project: Path) -> None:
    with opened("base") as reference:
        assert reference.variant == ModelVariant(Path("models/base"), "bf16")
        assert reference.version is None


def test_a_version_is_not_registered_in_another_form_than_the_one_judged(project: Path) -> None:
    told = (
        r"the verdict is about the model as adapter over NF4, and register would ship it as "
        r"merged, quantised to NF4 .*`dvc repro evaluate` judges what will be served"
    )
    with pytest.raises(UserError, match=told):
        run_register(artifact="merged")
    judge_as("adapter", "bf16")
    figures = json.loads(Path("metrics/evaluate.json").read_text())
    figures["judged"]["precision"] = "nf4"
    Path("metrics/evaluate.json").write_text(json.dumps(figures))
    with pytest.raises(UserError, match=r"as adapter over NF4, .* ship it as adapter over bf16"):
        run_register()
    assert client(project).search_registered_models() == []


def test_merged_weights_are_judged_as_they_are_shipped(tiny_model: Path, tmp_path: Path) -> None:
    make_adapter(tiny_model, tmp_path / "adapter")
    (tmp_path / "shipped").mkdir()
    export_merged(tmp_path / "adapter", tiny_model, tmp_path / "shipped", scale=0.5)
    shipped = load_for_inference(tmp_path / "shipped", precision="bf16").state_dict()
    judged = load_for_inference(
        tiny_model,
        precision="bf16",
        adapter=tmp_path / "adapter",
        alpha_scale=0.5,
        merged=True,
    ).state_dict()
    assert shipped.keys() == judged.keys()
    assert all(torch.equal(tensor, judged[name]) for name, tensor in shipped.items())
