import os
import subprocess
import sys
from pathlib import Path

from lmadapt.core.environment import QUIET

PROGRAM = """
import stages.register, huggingface_hub.constants
from mlflow.telemetry import get_telemetry_client
from lmadapt.core.environment import prepare_environment
prepare_environment(offline=True)
print(huggingface_hub.constants.HF_HUB_OFFLINE, get_telemetry_client())
"""


def test_a_stage_is_quiet_and_offline_even_if_its_libraries_are_imported_first() -> None:
    environment = {
        name: value for name, value in os.environ.items() if name not in {*QUIET, "HF_HUB_OFFLINE"}
    }
    environment["PYTHONPATH"] = str(Path(__file__).parents[2])
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == ["True", "None"]
