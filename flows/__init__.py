"""The stages of dvc.yaml as Prefect flows: local runs, runs on agents, sweeps and schedules.

A stage runs through the `dvc` command; no flow imports torch.

adapt: all stages on this machine, and one stage on an agent
pipeline: all stages on the agents of work pools, one after the other
sweep: the pipeline for several params sets side by side
sweep_plan: which stages the sets of a sweep share
watch: the pipeline when its data is new
hand_off: one stage on an agent, from and to the shared git and DVC remotes
lease: which agent may write the result of a run
shared_store: checkpoints in the DVC remote, and settings of DVC's cache
run_stage: one stage through `dvc repro`
results: what stages measured, as flows read it
supervise: runs a command and ends all its processes when its parent dies
one_stage.sh: the shell that lets an agent run one stage and no other
git: the git command
"""

import os
from pathlib import Path

# Set before Prefect is imported: no telemetry, and its database in the project instead of the
# user's home.
os.environ.setdefault("DO_NOT_TRACK", "true")
os.environ.setdefault("PREFECT_SERVER_ANALYTICS_ENABLED", "false")
# Prefect's default of 20 s is too short on a busy machine.
os.environ.setdefault("PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS", "120")
if "PREFECT_HOME" not in os.environ:
    home = Path.cwd() / ".lmadapt" / "prefect"
    home.mkdir(parents=True, exist_ok=True)
    os.environ["PREFECT_HOME"] = str(home)
