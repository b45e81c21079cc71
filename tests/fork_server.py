"""The server that forks the processes of tests: it has imported the heavy libraries once."""

import multiprocessing
from multiprocessing.context import ForkServerContext

# A test process has one such server, whose first user decides what it imports: so all of it here.
PRELOADED = [
    "lmadapt.registry.pyfunc_model",
    "lmadapt.registry.scores",
    "lmadapt.registry.upload",
    "lmadapt.registry.verify",
    "mlflow.server.fastapi_app",
    "mlflow.store.tracking.sqlalchemy_store",
    "psycopg2",
    "pytest",
    "tests.adapted",
    "uvicorn",
]


def fork_server() -> ForkServerContext:
    """Where to start processes; each of them is forked within milliseconds."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOADED)
    return context
