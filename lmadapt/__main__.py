"""`python -m lmadapt` is `lmadapt`."""

from lmadapt.cli.app import app

app(prog_name="lmadapt")
