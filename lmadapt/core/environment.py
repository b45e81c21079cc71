"""Settings every process of ours starts with: no telemetry, and no surprise downloads."""

import logging
import os
import sys
import warnings

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
    """Switch off the telemetry of every library, and warnings no user can act on; with `offline`, forbid hub access.

    Call it before the libraries are imported. A variable the user has set stays as it is.
    """
    for name, value in QUIET.items():
        os.environ.setdefault(name, value)
    # It advises to install a package that would download kernels from a hub.
    logging.getLogger("bitsandbytes.backends.cpu.ops").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", category=FutureWarning, module="transformers|peft")
    if offline:
        os.environ.setdefault("HF_HUB_OFFLINE", "1")
        if hub := sys.modules.get(
            "huggingface_hub.constants"
        ):  # it reads the variable when it is imported
            hub.HF_HUB_OFFLINE = os.environ["HF_HUB_OFFLINE"] == "1"  # type: ignore[attr-defined]
