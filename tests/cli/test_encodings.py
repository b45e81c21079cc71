"""What the program prints where the terminal's encoding lacks a character."""

import io
import sys

import pytest

from lmadapt.cli.app import _print_in_any_encoding
from lmadapt.cli.console import say


def test_a_pipe_in_latin_1_gets_escapes_for_what_it_lacks(monkeypatch: pytest.MonkeyPatch) -> None:
    pipe = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(pipe, encoding="latin-1"))
    _print_in_any_encoding()
    say("Zürich: fell by \u2265 2 points \U0001f600")
    sys.stdout.flush()
    assert pipe.getvalue().decode("latin-1") == "Zürich: fell by \\u2265 2 points \\U0001f600\n"
