"""Settings that every process starts with: no telemetry, and no download that nobody asked for."""

import logging
import os
import sys
import warnings

TRUST_VARIABLE = "LMADAPT_TRUST_REMOTE_CODE"  # "true": a model folder's own code may run
QUIET = {
    "DO_NOT_TRACK": "true",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "GX_ANALYTICS_ENABLED": "false",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "DAFT_ANALYTICS_ENABLED": "0",
    "RAY_USAGE_STATS_ENABLED": "0",
    "TOKENIZERS_PARALLELISM": "false",
    "BITSANDBYTES_NOWELCOME": "1",
}


def prepare_environment(*, offline: bool) -> None:
    """Switch off telemetry and warnings that no user can act on; `offline` forbids hub access.

    Call it before the libraries are imported. A variable that the user has set stays as it is.
    """
    for name, value in QUIET.items():
        os.environ.setdefault(name, value)
    # This logger recommends a package that would download kernels from a hub.
    logging.getLogger("bitsandbytes.backends.cpu.ops").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", category=FutureWarning, module="transformers|peft")
    if not offline:
        return
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    # The module read the variable if it was imported earlier.
    hub = sys.modules.get("huggingface_hub.constants")
    if hub:
        hub.HF_HUB_OFFLINE = os.environ["HF_HUB_OFFLINE"] == "1"  # type: ignore[attr-defined]
