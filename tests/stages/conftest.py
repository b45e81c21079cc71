"""Runs of the stage evaluate that several test files read."""

import pytest

from tests.stages.evaluate_case import Case, make_case


@pytest.fixture(scope="session")
def case(tmp_path_factory: pytest.TempPathFactory) -> Case:
    return make_case(tmp_path_factory.mktemp("evaluate"))


@pytest.fixture(scope="session")
def zeros(case: Case, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """What the stage writes for an adapter that changes nothing."""
    return case.run(tmp_path_factory.mktemp("zeros"))


@pytest.fixture(scope="session")
def noise(case: Case, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """What the stage writes for an adapter that ruins the model."""
    return case.run(tmp_path_factory.mktemp("noise"), adapter=case.noise)
