"""Code in a model folder runs only when the user says so."""

import json
import os
import shutil
from pathlib import Path

import pytest

from lmadapt.core.environment import TRUST_VARIABLE
from lmadapt.core.errors import UserError
from lmadapt.core.stage_runner import _allow_own_code
from lmadapt.models.loading import load_bf16, load_tokenizer

CODE = """
from pathlib import Path
Path({ran!r}).touch()
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast
class Mine(LlamaConfig): model_type = {kind!r}
class Model(LlamaForCausalLM): config_class = Mine
class Words(PreTrainedTokenizerFast): pass
"""


@pytest.fixture
def ran(tmp_path: Path) -> Path:
    """The file that a model's own code writes when it runs."""
    return tmp_path / "ran"


def with_own_code(tiny_model: Path, folder: Path, ran: Path, kind: str = "") -> Path:
    """A copy of the tiny model whose configuration names code beside it.

    `kind` is the model's type where transformers knows none by that name.
    """
    shutil.copytree(tiny_model, folder)
    config = json.loads((folder / "config.json").read_text())
    code = CODE.format(ran=str(ran), kind=kind or config["model_type"])
    (folder / "own.py").write_text(code)
    own = {"AutoConfig": "own.Mine", "AutoModelForCausalLM": "own.Model"}
    config |= {"auto_map": own, "model_type": kind or config["model_type"]}
    (folder / "config.json").write_text(json.dumps(config))
    words = json.loads((folder / "tokenizer_config.json").read_text())
    words["auto_map"] = {"AutoTokenizer": [None, "own.Words"]}
    (folder / "tokenizer_config.json").write_text(json.dumps(words))
    return folder


def test_code_beside_a_model_that_transformers_knows_never_runs(
    tiny_model: Path, tmp_path: Path, ran: Path
) -> None:
    folder = with_own_code(tiny_model, tmp_path / "model", ran)
    load_tokenizer(folder)
    load_bf16(folder)
    assert not ran.exists()


def test_a_model_that_only_its_own_code_can_load_is_refused(
    tiny_model: Path, tmp_path: Path, ran: Path
) -> None:
    folder = with_own_code(tiny_model, tmp_path / "model", ran, kind="unheard_of")
    with pytest.raises(UserError, match=r"runs its own code; .*LMADAPT_TRUST_REMOTE_CODE=true"):
        load_bf16(folder)
    assert not ran.exists()


def test_the_model_s_own_code_runs_when_the_user_says_so(
    tiny_model: Path, tmp_path: Path, ran: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(TRUST_VARIABLE, "true")
    monkeypatch.setenv("HF_MODULES_CACHE", str(tmp_path / "modules"))
    folder = with_own_code(tiny_model, tmp_path / "model", ran, kind="heard_of")
    assert type(load_bf16(folder)).__name__ == "Model"
    assert ran.exists()


@pytest.mark.parametrize(("trust", "expected"), [(True, "true"), (False, None), ("yes", None)])
def test_a_stage_lets_a_model_s_code_run_only_when_params_yaml_does(
    trust: object, expected: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(TRUST_VARIABLE, "")
    monkeypatch.delenv(TRUST_VARIABLE)
    _allow_own_code({"fetch": {"model": {"trust_remote_code": trust}}})
    assert os.environ.get(TRUST_VARIABLE) == expected
