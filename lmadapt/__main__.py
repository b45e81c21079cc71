"""`python -m lmadapt` is `lmadapt`."""

from lmadapt.cli import app

app(prog_name="lmadapt")
