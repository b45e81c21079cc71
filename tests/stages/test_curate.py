import csv
import json
import random
import subprocess
import sys
import time
from pathlib import Path

from lmadapt.core.files import folder_sha256
from lmadapt.core.recipes import read_recipe
from lmadapt.core.sections import check_section
from lmadapt.core.tables import CURATED_TABLES, read_table
from stages.curate import CurateParams, curate
from tests.raw_tables import SETTINGS, raw_records, write_raw

ROOT = Path(__file__).parents[2]


def run(folder: Path, raw: Path) -> Path:
    params = CurateParams(**SETTINGS)
    curate(
        params,
        raw,
        folder / "curated",
        folder / "plots" / "funnel.csv",
        folder / "metrics" / "curate.json",
    )
    return folder


def test_curate_writes_every_table_the_funnel_and_equal_files_each_time(tmp_path: Path) -> None:
    raw = write_raw(raw_records(), tmp_path / "raw")
    first, second = run(tmp_path / "first", raw), run(tmp_path / "second", raw)
    assert {
        table: read_table(first / "curated" / f"{table}.parquet", schema).num_rows > 0
        for table, schema in CURATED_TABLES.items()
    } == dict.fromkeys(CURATED_TABLES, True)
    with (first / "plots" / "funnel.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert rows[0] == {"bar": "corpus 0 raw", "stage": "raw", "role": "corpus", "documents": "30"}
    metrics = json.loads((first / "metrics" / "curate.json").read_text())
    assert metrics["rows"]["corpus"]["raw"] == 30
    for file in sorted(path for path in first.rglob("*") if path.is_file()):
        assert file.read_bytes() == (second / file.relative_to(first)).read_bytes()


PROGRAM = """
import sys
from pathlib import Path
from tests.stages.test_curate import run
print("ready", flush=True)
run(Path(sys.argv[1]), Path(sys.argv[2]))
"""


def test_a_run_after_a_kill_at_any_time_gives_the_same_files(tmp_path: Path) -> None:
    raw = write_raw(raw_records(), tmp_path / "raw")
    began = time.monotonic()
    expected = folder_sha256(run(tmp_path / "undisturbed", raw))
    lasted, draw, killed = time.monotonic() - began, random.Random(0), 0
    for _ in range(10):
        command = [sys.executable, "-c", PROGRAM, str(tmp_path / "out"), str(raw)]
        with subprocess.Popen(
            command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        ) as process:
            assert process.stdout
            process.stdout.readline()
            time.sleep(draw.uniform(0, lasted))
            killed += process.poll() is None
            process.kill()
        curated = folder_sha256(run(tmp_path / "out", raw) / "curated")
        assert curated == folder_sha256(tmp_path / "undisturbed" / "curated")
    assert killed >= 5
    left = [path for path in (tmp_path / "out").rglob("*") if ".tmp" not in str(path)]
    assert {path.relative_to(tmp_path / "out") for path in left} == {
        path.relative_to(tmp_path / "undisturbed") for path in (tmp_path / "undisturbed").rglob("*")
    }
    assert expected == folder_sha256(tmp_path / "undisturbed")


def test_the_demo_has_every_setting() -> None:
    demo = read_recipe("demo-cpu", ROOT / "recipes")
    assert check_section(CurateParams, "curate", demo, "demo-cpu").near_duplicate_jaccard == 0.8
