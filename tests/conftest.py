"""What every test starts from: no telemetry, no network, and a tiny model made once."""

import gc
import os
from pathlib import Path

import pytest

from lmadapt.core.environment import prepare_environment

gc.disable()  # while tests are imported: collections find nothing, and take a fifth of the time
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["OMP_NUM_THREADS"] = (
    "1"  # tiny models gain nothing from threads, and tests run side by side
)
prepare_environment(offline=True)


@pytest.fixture(scope="module", autouse=True)
def small_heap() -> None:
    """Leave what is there out of garbage collections.

    Each training collects twice, and pytest's modules with torch and mlflow cost a second each.
    """
    gc.freeze()


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a two-layer model; tests must not write into it."""
    from tests.tiny import make_tiny_model

    return make_tiny_model(tmp_path_factory.mktemp("tiny") / "base")


def pytest_collection_finish() -> None:
    gc.enable()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if not any(item.get_closest_marker("gpu") for item in items):
        return
    import torch

    if not torch.cuda.is_available():
        for item in items:
            if item.get_closest_marker("gpu"):
                item.add_marker(pytest.mark.skip(reason="needs an NVIDIA GPU"))
