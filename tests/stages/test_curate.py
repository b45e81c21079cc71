import csv
import json
from pathlib import Path

from lmadapt.records import CURATED_TABLES, read_table
from lmadapt.sections import load_section
from stages.curate import CurateParams, curate
from tests.raw_tables import RUNNING, SCREENING, SETTINGS, raw_records, write_raw

PARAMS = Path(__file__).parents[2] / "recipes/demo-cpu.yaml"


def run(folder: Path, raw: Path) -> Path:
    params = CurateParams(**SCREENING, **RUNNING, **SETTINGS)
    curate(params, raw, folder / "curated", folder / "plots" / "funnel.csv", folder / "metrics" / "curate.json")
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


def test_the_demo_has_every_setting() -> None:
    assert load_section(CurateParams, "curate", PARAMS).near_duplicate_jaccard == 0.8
