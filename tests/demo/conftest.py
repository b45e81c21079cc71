"""Small versions of the demo's packages: excerpts in data/, and a database made here."""

import shutil
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

ELEMENTS = [
    ("Hydrogen", "H", "Nonmetals"),
    ("Helium", "He", "Noble gases"),
    ("Lithium", "Li", "Alkali metals"),
    ("Iron", "Fe", "Transition metals"),
    ("Gold", "Au", "Transition metals"),
    ("Neon", "Ne", "Noble gases"),
    ("Argon", "Ar", "Noble gases"),
    ("Fluorine", "F", "Halogens"),
    ("Phosphorus", "P", "Nonmetals"),
]


@pytest.fixture(scope="session")
def packages(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    cache = tmp_path_factory.mktemp("packages")
    folder = cache / "x"
    shutil.copytree(Path(__file__).parent / "data", folder)
    (folder / "mendeleev").mkdir()
    with sqlite3.connect(folder / "mendeleev/elements.db") as database:
        database.execute("CREATE TABLE series (id INTEGER, name TEXT)")
        columns = "name TEXT, symbol TEXT, atomic_number INTEGER, series_id INTEGER"
        database.execute(f"CREATE TABLE elements ({columns})")
        kinds = sorted({kind for _, _, kind in ELEMENTS})
        database.executemany("INSERT INTO series VALUES (?, ?)", list(enumerate(kinds)))
        rows = [
            (name, symbol, n, kinds.index(kind)) for n, (name, symbol, kind) in enumerate(ELEMENTS)
        ]
        database.executemany("INSERT INTO elements VALUES (?, ?, ?, ?)", rows)
    database.close()
    pins = {
        f"{name}==1": "0" * 64 for name in ("cwe2", "chatterbot-corpus", "countryinfo", "mendeleev")
    }
    for requirement, sha256 in pins.items():
        (cache / f"{requirement}-{sha256[:16]}").symlink_to(folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("demo.packages.CACHE", cache)
        yield pins
