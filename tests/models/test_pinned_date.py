"""Chat templates that print the date of the day on which they are rendered."""

import shutil
from datetime import date
from pathlib import Path

import pytest
import transformers.utils.chat_template_utils as rendering

from lmadapt.models import base_model
from lmadapt.models.chat import encode_prompt, pin_date
from lmadapt.models.loading import load_tokenizer
from tests.tiny import make_tiny_tokenizer

DAY = date(2026, 3, 5)
TURNS = (
    "{% for m in messages %}{{ '<' + m.role + '>' + m.content + '<pad>' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<assistant>' }}{% endif %}"
)
# Llama 3.1's way, and one with a macro of its own and white space around blocks.
LLAMA = (
    "{%- if not date_string is defined %}\n    {%- if strftime_now is defined %}\n"
    '        {%- set date_string = strftime_now("%d %b %Y") %}\n    {%- else %}\n'
    '        {%- set date_string = "26 Jul 2024" %}\n    {%- endif %}\n{%- endif %}\n'
    "{{ 'Today Date: ' + date_string + '\n' }}" + TURNS
)
MACRO = (
    "\n  {% macro today(form) %}{{ strftime_now(form) }}{% endmacro %}\n"
    "  {% set form = '%Y-%m-%d' %}\n{{ today(form) }}\n" + TURNS
)
QUESTION = [{"role": "user", "content": "Which day?"}]


class Later(rendering.datetime):
    """A clock of another day."""

    @classmethod
    def now(cls, tz: object = None) -> "Later":
        return cls(2031, 12, 24)


@pytest.mark.parametrize(("template", "expected"), [(LLAMA, "05 Mar 2026"), (MACRO, "2026-03-05")])
def test_a_pinned_template_prints_its_day_whatever_the_clock_says(
    template: str, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    tokenizer = make_tiny_tokenizer()
    monkeypatch.setattr(rendering, "datetime", Later)
    tokenizer.chat_template = template
    before = tokenizer.apply_chat_template(QUESTION, tokenize=False)
    tokenizer.chat_template = pin_date(template, DAY)
    after = tokenizer.apply_chat_template(QUESTION, tokenize=False)
    later = "24 Dec 2031" if template == LLAMA else "2031-12-24"
    assert after == before.replace(later, expected)
    assert expected in after


def test_pinning_twice_keeps_the_first_day_and_other_templates_stay_as_they_are() -> None:
    pinned = pin_date(LLAMA, DAY)
    assert pin_date(pinned, date(2030, 1, 1)) == pinned
    assert pin_date(TURNS, DAY) == TURNS


@pytest.mark.parametrize("setting", ["auto", "file"])
def test_the_date_is_pinned_when_the_model_is_fetched(
    setting: str, tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = Path(shutil.copytree(tiny_model, tmp_path / "model"))
    file = (model if setting == "auto" else tmp_path) / "chat_template.jinja"
    file.write_text(LLAMA)
    base_model.copy_model(
        str(model),
        revision=None,
        chat_template="auto" if setting == "auto" else str(file),
        trust_remote_code=False,
        target=tmp_path / "base",
    )
    tokenizer = load_tokenizer(tmp_path / "base")
    today = encode_prompt(tokenizer, QUESTION)
    monkeypatch.setattr(rendering, "datetime", Later)
    assert encode_prompt(load_tokenizer(tmp_path / "base"), QUESTION) == today
    assert f"Today Date: {date.today():%d %b %Y}" in tokenizer.decode(today)
