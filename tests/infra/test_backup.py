"""Backup and restore with a real PostgreSQL."""

import os
import shutil
import subprocess
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.registry_server import postgresql

INFRA = Path(__file__).parents[2] / "infra"


def test_a_backup_restores_both_databases_and_a_damaged_one_drops_neither(tmp_path: Path) -> None:
    if not shutil.which("pg_dump") or not shutil.which("psql"):
        pytest.skip("needs PostgreSQL's clients")
    with postgresql() as address:
        where = urlsplit(address)
        environment = os.environ | {
            "PGHOST": "127.0.0.1",
            "PGPORT": str(where.port),
            "PGUSER": "mlflow",
            "PGDATABASE": "postgres",
        }

        def run(*command: str, check: bool = True) -> str:
            return subprocess.run(
                command, env=environment, check=check, capture_output=True, text=True
            ).stdout.strip()

        for database in ("prefect", "mlflow"):
            run("createdb", database)
            run("psql", "-d", database, "-c", "CREATE TABLE kept AS SELECT 7 AS number")
        run(str(INFRA / "backup.sh"), str(tmp_path))
        assert (tmp_path / "mlflow.dump").stat().st_mode & 0o077 == 0
        run("psql", "-d", "mlflow", "-c", "UPDATE kept SET number = 8")
        run(str(INFRA / "restore.sh"), str(tmp_path))
        assert run("psql", "-d", "mlflow", "-tAc", "SELECT number FROM kept") == "7"
        (tmp_path / "mlflow.dump").write_bytes(b"torn")
        run("psql", "-d", "prefect", "-c", "UPDATE kept SET number = 9")
        run(str(INFRA / "restore.sh"), str(tmp_path), check=False)
        assert run("psql", "-d", "prefect", "-tAc", "SELECT number FROM kept") == "9"
