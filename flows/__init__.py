"""The same stages as Prefect flows: local runs, deployments, schedules; they need only `dvc`."""

import os
from pathlib import Path

# Before Prefect is imported: no telemetry, and its database beside the project instead of in the user's home.
os.environ.setdefault("DO_NOT_TRACK", "true")
os.environ.setdefault("PREFECT_SERVER_ANALYTICS_ENABLED", "false")
os.environ.setdefault(
    "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS", "120"
)  # 20 are too few on a busy machine
if "PREFECT_HOME" not in os.environ:
    home = Path.cwd() / ".lmadapt" / "prefect"
    home.mkdir(parents=True, exist_ok=True)
    os.environ["PREFECT_HOME"] = str(home)
