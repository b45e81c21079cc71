from collections.abc import Iterator

import pytest

import flows  # noqa: F401  # before Prefect: sets where Prefect keeps its files


@pytest.fixture(scope="session")
def prefect_server() -> Iterator[None]:
    """A Prefect server with an empty database, for flows that run in this process."""
    from prefect.testing.utilities import prefect_test_harness

    with prefect_test_harness(server_startup_timeout=120):
        yield
