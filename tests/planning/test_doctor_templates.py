"""What doctor says of templates whose turns end with another token than a text."""

import shutil
from pathlib import Path

import pytest

from lmadapt.models.loading import load_tokenizer
from lmadapt.planning.doctor import diagnose

TURN = (
    "{% for m in messages %}{{ '<bos>' + m['role'] + '\n' + m['content'] + 'END\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<bos>assistant\n' }}{% endif %}"
)


@pytest.mark.parametrize("end", ["<pad>", "<eos>"])
def test_a_turn_may_end_with_any_special_token(end: str, tiny_model: Path, tmp_path: Path) -> None:
    base = Path(shutil.copytree(tiny_model, tmp_path / "models/base"))
    tokenizer = load_tokenizer(base)
    tokenizer.chat_template = TURN.replace("END", end)
    tokenizer.save_pretrained(base)
    found = {check.name: check for check in diagnose(tmp_path, gradient=False)}
    assert (found["template"].status, found["label mask"].status) == ("ok", "ok")
    assert f"{end}»" in found["template"].detail
