import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pyarrow as pa
import pytest

from lmadapt.core.errors import UserError
from lmadapt.core.tables import DOCUMENT, open_table
from lmadapt.curation.parallel import Workers, map_groups
from tests.raw_tables import curate_records, document, prose, raw_records


@pytest.fixture
def file(tmp_path: Path) -> Path:
    with open_table(DOCUMENT, tmp_path / "rows.parquet") as write:
        for group in range(5):
            write(
                pa.Table.from_pylist(
                    [document(f"{group}/{n}", prose(n)) for n in range(group)], schema=DOCUMENT
                )
            )
    return tmp_path / "rows.parquet"


def where(table: pa.Table) -> tuple[int, int]:
    return len(table), os.getpid()


def fail(table: pa.Table) -> None:
    raise UserError(f"{len(table)} rows")


@pytest.mark.parametrize("processes", [1, 3, None])
def test_results_come_in_the_order_of_the_groups(
    processes: int | None, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lmadapt.curation.parallel.GROUPS_A_PROCESS", 1)
    found = list(map_groups(where, file, DOCUMENT, file.parent, Workers("local", processes)))
    assert [rows for rows, _ in found] == [0, 1, 2, 3, 4]
    assert (os.getpid() in {pid for _, pid in found}) == ((processes or os.cpu_count()) == 1)


def test_few_groups_stay_in_this_process(file: Path) -> None:
    assert {
        pid for _, pid in map_groups(where, file, DOCUMENT, file.parent, Workers("local", 3))
    } == {os.getpid()}


@pytest.mark.parametrize("groups_a_process", [1, 4])
def test_an_error_in_a_group_is_raised(
    groups_a_process: int, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lmadapt.curation.parallel.GROUPS_A_PROCESS", groups_a_process)
    with pytest.raises(UserError, match="0 rows"):
        list(map_groups(fail, file, DOCUMENT, file.parent, Workers("local", 2)))


def sleep(table: pa.Table) -> int:
    print(os.getpid(), flush=True)
    time.sleep(60)
    return len(table)


PROGRAM = """
import sys
from pathlib import Path
from lmadapt.core.tables import DOCUMENT
from lmadapt.curation import parallel
from tests.curation.test_parallel import sleep
if __name__ == "__main__":
    parallel.GROUPS_A_PROCESS = 1
    file, workers = Path(sys.argv[1]), parallel.Workers("local", 2)
    list(parallel.map_groups(sleep, file, DOCUMENT, file.parent, workers))
"""


def runs(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="reads /proc")
def test_the_processes_end_with_one_that_is_killed(file: Path, tmp_path: Path) -> None:
    (tmp_path / "program.py").write_text(PROGRAM)
    root = Path(__file__).parents[2]
    command = [sys.executable, str(tmp_path / "program.py"), str(file)]
    environment = os.environ | {"PYTHONPATH": str(root)}
    with subprocess.Popen(
        command, cwd=root, env=environment, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout
        workers = [int(process.stdout.readline()) for _ in range(2)]
        process.send_signal(signal.SIGKILL)
        until = time.monotonic() + 10
        while any(map(runs, workers)) and time.monotonic() < until:
            time.sleep(0.05)
        assert not any(map(runs, workers))


def test_ray_gives_the_decisions_and_tables_of_the_local_engine(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pytest.importorskip("daft")
    ray = pytest.importorskip("ray")
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    monkeypatch.setattr("lmadapt.core.tables.GROUP_ROWS", 9)
    records = raw_records()
    records["corpus"].append(
        document("corpus/longer", f"{prose(5)} And a little more, jane.roe@example.org.", "thing 5")
    )
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
    try:
        distributed = curate_records(records, engine="ray")
    finally:
        ray.shutdown()
    assert distributed == curate_records(records, processes=2)
    assert {row["rule"] for row in distributed.tables["decisions"]} >= {
        "near_duplicate",
        "personal_data",
    }
