import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from lmadapt.models.chat import encode_conversation
from lmadapt.models.loading import load_tokenizer
from lmadapt.training import self_replay
from lmadapt.training.self_replay import KEPT, self_instructions, self_texts

ROOT = Path(__file__).parents[2]


def _texts(base: Path, tokens: int = 300, seed: int = 0) -> list[dict[str, Any]]:
    return self_texts(base, load_tokenizer(base), tokens=tokens, max_sequence_tokens=16, seed=seed)


def _instructions(base: Path, seed: int = 0) -> list[dict[str, Any]]:
    return self_instructions(base, load_tokenizer(base), loss_tokens=300, seed=seed)


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_the_model_writes_as_many_tokens_as_needed(tiny_model: Path) -> None:
    tokenizer = load_tokenizer(tiny_model)
    texts = [row["text"] for row in _texts(tiny_model)]
    assert sum(len(tokenizer(text, add_special_tokens=False)["input_ids"]) for text in texts) > 250
    assert len(set(texts)) > 0.9 * len(texts)
    assert {row["source"] for row in _texts(tiny_model)} == {"self"}


def test_the_model_asks_and_answers_itself_in_the_form_of_its_template(tiny_model: Path) -> None:
    tokenizer = load_tokenizer(tiny_model)
    rows = _instructions(tiny_model)
    assert sum(encode_conversation(tokenizer, row["messages"]).loss_tokens for row in rows) >= 300
    questions = [row["messages"][0]["content"] for row in rows]
    assert len(set(questions)) == len(questions)
    for row in rows:
        question, answer = row["messages"]
        assert (question["role"], answer["role"]) == ("user", "assistant")
        assert "\n" not in question["content"] + answer["content"]


def test_a_table_is_kept_for_each_base_seed_and_settings(
    tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = _texts(tiny_model)
    _texts(tiny_model, tokens=200)
    other = _texts(tiny_model, seed=1)
    assert len(list(KEPT.glob("*.parquet"))) == 3
    assert other != first
    monkeypatch.setattr(self_replay, "load_bf16", lambda base: pytest.fail("written again"))
    assert _texts(tiny_model) == first


def test_the_same_seed_writes_the_same_text(tiny_model: Path) -> None:
    first = [_texts(tiny_model), _instructions(tiny_model)]
    for file in KEPT.glob("*.parquet"):
        file.unlink()
    assert [_texts(tiny_model), _instructions(tiny_model)] == first


def test_an_interrupted_run_keeps_nothing(
    tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    draw, calls = self_replay.continuations, []

    def interrupted(*given: Any, **options: Any) -> Any:
        calls.append(given)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return draw(*given, **options)

    monkeypatch.setattr(self_replay, "continuations", interrupted)
    with pytest.raises(KeyboardInterrupt):
        _instructions(tiny_model)
    assert not list(KEPT.iterdir())


def test_git_ignores_what_the_model_wrote(tiny_model: Path, tmp_path: Path) -> None:
    subprocess.run(["git", "init", "-q"], check=True)
    shutil.copy(ROOT / ".gitignore", tmp_path)
    subprocess.run(["git", "add", ".gitignore"], check=True)
    _texts(tiny_model)
    assert len(list(KEPT.glob("*.parquet"))) == 1
    command = ["git", "status", "--porcelain", "--untracked-files=all"]
    status = subprocess.run(command, capture_output=True, check=True, text=True).stdout
    assert status.splitlines() == ["A  .gitignore"]
