import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoConfig, AutoTokenizer

from lmadapt.core.errors import Unavailable, UserError
from lmadapt.core.files import file_sha256
from lmadapt.models.base_model import copy_model, weights_sha256
from lmadapt.models.chat import PLAIN_TEMPLATE, encode_conversation

CHATML = (
    "{% for m in messages %}<|{{ m['role'] }}|>{{ m['content'] }}{{ eos_token }}{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)


def copy(source: Path | str, target: Path, **settings: Any) -> None:
    options: dict[str, Any] = {
        "revision": None,
        "chat_template": "auto",
        "trust_remote_code": False,
    }
    copy_model(str(source), **{**options, **settings}, target=target)


@pytest.fixture
def model(tiny_model: Path, tmp_path: Path) -> Path:
    """A copy of the tiny model that a test may change."""
    return Path(shutil.copytree(tiny_model, tmp_path / "model"))


def template_of(folder: Path) -> str:
    return str(AutoTokenizer.from_pretrained(folder).chat_template)


def test_only_the_files_of_a_model_are_copied_from_a_folder(model: Path, tmp_path: Path) -> None:
    for name in ("optimizer.pt", "README.md", "modeling.py", "consolidated.safetensors"):
        (model / name).write_text("x")
    copy(model, tmp_path / "base")
    copied = {file.name for file in (tmp_path / "base").iterdir()}
    assert {"config.json", "model.safetensors", "tokenizer.json", "chat_template.jinja"} <= copied
    assert not copied & {"optimizer.pt", "README.md", "modeling.py", "consolidated.safetensors"}
    sha256 = {"model.safetensors": file_sha256(model / "model.safetensors")}
    assert weights_sha256(tmp_path / "base") == sha256
    copy(model, tmp_path / "base", trust_remote_code=True)
    assert (tmp_path / "base/modeling.py").is_file()


def test_the_template_is_the_models_own_or_plain_or_a_file(model: Path, tmp_path: Path) -> None:
    (model / "chat_template.jinja").write_text(CHATML)
    (tmp_path / "mine.jinja").write_text(CHATML.replace("<|", "["))
    for setting, expected in (
        ("auto", CHATML),
        ("plain", PLAIN_TEMPLATE),
        (str(tmp_path / "mine.jinja"), CHATML.replace("<|", "[")),
    ):
        copy(model, tmp_path / "base", chat_template=setting)
        assert template_of(tmp_path / "base") == expected
    (model / "chat_template.jinja").unlink()
    copy(model, tmp_path / "base")
    assert template_of(tmp_path / "base") == PLAIN_TEMPLATE


def test_the_plain_template_overrides_the_one_in_the_tokenizer_configuration(
    model: Path, tmp_path: Path
) -> None:
    (model / "chat_template.jinja").unlink()
    settings = json.loads((model / "tokenizer_config.json").read_text())
    (model / "tokenizer_config.json").write_text(json.dumps({**settings, "chat_template": CHATML}))
    copy(model, tmp_path / "auto")
    copy(model, tmp_path / "plain", chat_template="plain")
    assert (template_of(tmp_path / "auto"), template_of(tmp_path / "plain")) == (
        CHATML,
        PLAIN_TEMPLATE,
    )
    assert encode_conversation(
        AutoTokenizer.from_pretrained(tmp_path / "plain"),
        [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}],
    ).loss_tokens


def test_a_template_that_rewrites_earlier_turns_is_refused(model: Path, tmp_path: Path) -> None:
    (model / "chat_template.jinja").write_text(
        "{% for m in messages[-2:] %}{{ m['content'] }}{% endfor %}"
    )
    with pytest.raises(
        UserError,
        match=r"cannot train on several turns: it .*use `fetch.model.chat_template: plain`",
    ):
        copy(model, tmp_path / "base")
    copy(model, tmp_path / "base", chat_template="plain")
    assert template_of(tmp_path / "base") == PLAIN_TEMPLATE


@pytest.mark.parametrize(
    ("template", "message"),
    [
        ("{% for m in messages %}", "cannot render a two-turn conversation"),
        ("{{ messages[0].content.nothing() }}", "cannot render a two-turn conversation"),
        (
            PLAIN_TEMPLATE.replace("'Question: ' + message['content']", "'Question'"),
            "leaves out 'First question",
        ),
        (None, "No such file or directory; allowed: auto, plain"),
    ],
)
def test_an_unusable_template_file_is_refused(
    template: str | None, message: str, model: Path, tmp_path: Path
) -> None:
    file = tmp_path / "mine.jinja"
    if template is not None:
        file.write_text(template)
    with pytest.raises(UserError, match=message) as error:
        copy(model, tmp_path / "base", chat_template=str(file))
    assert str(file) in str(error.value)
    assert not (tmp_path / "base").exists()


def test_folders_without_a_usable_model_are_refused(model: Path, tmp_path: Path) -> None:
    def refused(message: str, **settings: Any) -> None:
        with pytest.raises(UserError, match=message) as error:
            copy(model, tmp_path / "base", **settings)
        assert "model" in str(error.value)

    config = json.loads((model / "config.json").read_text())
    (model / "config.json").write_text(
        json.dumps({**config, "quantization_config": {"quant_method": "gptq"}})
    )
    refused("already quantised")
    (model / "config.json").write_text(
        json.dumps({**config, "auto_map": {"AutoConfig": "configuration.Mine"}})
    )
    refused("runs its own code; .*trust_remote_code to true")
    (model / "config.json").write_text(json.dumps(config))
    index = model / "model.safetensors.index.json"
    index.write_text('{"weight_map": {"a": "model.safetensors", "b": "model-2.safetensors"}}')
    refused(r"model-2.safetensors is missing")
    index.unlink()
    (model / "tokenizer.json").unlink()
    refused("no usable tokenizer")
    (model / "model.safetensors").rename(model / "pytorch_model.bin")
    refused(r"only pickled weights \(pytorch_model.bin\)")
    (model / "pytorch_model.bin").unlink()
    refused("no weights; safetensors are needed")
    (model / "config.json").unlink()
    refused("config.json is missing")


def test_the_error_for_an_unknown_model_says_what_is_allowed(tmp_path: Path) -> None:
    with pytest.raises(
        UserError,
        match=r"'no/such/folder' is not a model; allowed: a hub model id .* an existing folder",
    ):
        copy("no/such/folder", tmp_path / "base")
    with pytest.raises(
        UserError,
        match=r"name_or_path: there is no folder 'acme/tiny'. If .*revision to the commit to pin",
    ):
        copy("acme/tiny", tmp_path / "base")


def test_a_hub_that_does_not_answer_means_try_again_later(tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match="'acme/tiny' is not a folder here") as error:
        copy("acme/tiny", tmp_path / "base", revision="main")
    assert error.value.exit_code == 75


def test_a_pinned_hub_model_comes_from_the_cache_of_the_hub(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from huggingface_hub import constants

    commit = "0" * 40
    snapshot = tmp_path / "hub/models--acme--tiny/snapshots" / commit
    shutil.copytree(model, snapshot)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    copy("acme/tiny", tmp_path / "base", revision=commit)
    assert weights_sha256(tmp_path / "base") == weights_sha256(model)
    assert AutoConfig.from_pretrained(tmp_path / "base").model_type == "gemma3_text"
