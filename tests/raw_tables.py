"""Small raw and curated tables of prose that shares nothing by chance, for tests."""

import random
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from lmadapt.core.tables import BAD_RECORD, CURATED_TABLES, RAW_TABLES, read_table, write_table
from lmadapt.curation import quality
from lmadapt.curation.funnel import FunnelPoint
from lmadapt.curation.sequence import curate_tables
from lmadapt.curation.settings import CurationSettings
from lmadapt.validation.measured_tables import measure_tables

Records = dict[str, list[dict[str, Any]]]
FILTERS = {
    "min_words": 3,
    "max_words": 2000,
    "min_alphabetic_fraction": 0.6,
    "max_repeated_line_fraction": 0.3,
}
PERSONAL_DATA = [
    "emails",
    "phones",
    "ip_addresses",
    "cards",
    "ibans",
    "api_keys",
    "private_keys",
]
SETTINGS: dict[str, Any] = {
    "seed": 0,
    "engine": "local",
    "processes": 1,
    "ray_address": None,
    "max_bad_records": 0.0,
    "filters": FILTERS,
    "languages": [],
    "min_language_confidence": 0.65,
    "personal_data": PERSONAL_DATA,
    "boilerplate_fraction": None,
    "near_duplicate_jaccard": 0.8,
    "decontaminate_ngram_words": 13,
    "on_leak": "drop_document",
    "paraphrase_model": None,
    "paraphrase_similarity": 0.9,
    "heldout_fraction": 0.1,
    "max_instructions_per_category": None,
}
MEASURING: dict[str, Any] = {  # what validation looks for
    "near_duplicate_jaccard": 0.8,
    "decontaminate_ngram_words": 13,
    "languages": [],
    "min_language_confidence": 0.65,
    "personal_data": PERSONAL_DATA,
}


@dataclass(frozen=True)
class Curated:
    """What curation wrote: the rows of every table, the funnel and the metrics."""

    tables: Records
    funnel: list[FunnelPoint]
    metrics: dict[str, Any]


def prose(seed: int, words: int = 60) -> str:
    """Nonsense sentences, the same for the same seed."""
    draw = random.Random(seed)
    vocabulary = [
        "".join(draw.choices("abcdefghijklmnopqrstuvwxyz", k=draw.randint(3, 9)))
        for _ in range(words)
    ]
    return " ".join(vocabulary).capitalize() + "."


def document(name: str, text: str, entity: str = "") -> dict[str, Any]:
    return {"id": name, "text": text, "entity": entity, "source": "tests", "location": f"at {name}"}


def instruction(name: str, question: str, answer: str, entity: str = "") -> dict[str, Any]:
    messages = [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
    row = {"id": name, "messages": messages, "category": "facts", "entity": entity}
    return row | {"source": "tests", "location": f"at {name}"}


def item(
    name: str, prompt: str, answer: str, group: str = "domain", cluster: str = ""
) -> dict[str, Any]:
    return {
        "id": name,
        "group": group,
        "category": f"{group} facts",
        "cluster": cluster,
        "prompt": prompt,
        "choices": [f"none of {name}", answer],
        "answer": 1,
        "check": "",
        "severity": "",
        "source": "tests",
        "location": f"at {name}",
    }


def raw_records() -> Records:
    """30 domain entities (the first ten with items, the others with instructions), 20 general."""
    return {
        "corpus": [document(f"corpus/{n}", prose(n), f"thing {n}") for n in range(30)],
        "general_text": [document(f"text/{n}", prose(100 + n), f"topic {n}") for n in range(10)],
        "instructions": [_domain_instruction(n) for n in range(10, 30)],
        "general_instructions": [_general_instruction(n) for n in range(10)],
        "evaluation": [
            *(_domain_item(n) for n in range(10)),
            *(_general_item(n) for n in range(10)),
        ],
    }


def _domain_instruction(n: int) -> dict[str, Any]:
    question = f"What does {prose(200 + n, 4)} mean?"
    return instruction(f"ask/{n}", question, prose(300 + n, 12), f"thing {n}")


def _general_instruction(n: int) -> dict[str, Any]:
    question = f"Tell me about {prose(400 + n, 4)}"
    return instruction(f"chat/{n}", question, prose(500 + n, 8), f"fact {n}")


def _domain_item(n: int) -> dict[str, Any]:
    question = f"Which is {prose(600 + n, 6)}?"
    return item(f"item/{n}", question, prose(700 + n, 5), "domain", f"thing {n}")


def _general_item(n: int) -> dict[str, Any]:
    question = f"Who is {prose(800 + n, 5)}?"
    return item(f"general/{n}", question, prose(900 + n, 3), "general", f"fact {n + 50}")


def judgeable_records() -> Records:
    """raw_records with 30 items in each category, the fewest that a verdict takes."""
    records = raw_records()
    for group, numbers in (("domain", range(2000, 2020)), ("general", range(3000, 3020))):
        for n in numbers:
            name, question = f"{group}/more/{n}", f"Which is {prose(n, 6)}?"
            more = item(name, question, prose(500 + n, 5), group, f"{group} {n}")
            records["evaluation"].append(more)
    return records


def curation_settings(**changes: Any) -> CurationSettings:
    """SETTINGS with changes; a change may name a filter."""
    settings = SETTINGS | {key: value for key, value in changes.items() if key in SETTINGS}
    filters = {key: value for key, value in changes.items() if key in quality.FILTERS}
    assert not changes.keys() - settings.keys() - filters.keys()
    return CurationSettings.model_validate(settings | {"filters": settings["filters"] | filters})


def curate_records(
    records: Records, *, bad: list[dict[str, Any]] | None = None, **changes: Any
) -> Curated:
    """Curate rows by role, as the stage does, with changes of SETTINGS or of a filter."""
    with tempfile.TemporaryDirectory() as folder:
        raw, target = write_raw(records, Path(folder, "raw"), bad or []), Path(folder, "curated")
        target.mkdir()
        funnel, metrics = curate_tables(raw, target, curation_settings(**changes))
        tables = {
            name: read_table(target / f"{name}.parquet", CURATED_TABLES[name]).to_pylist()
            for name in CURATED_TABLES
        }
    return Curated(tables, funnel, metrics)


def decision(curated: Curated, name: str) -> dict[str, Any]:
    [found] = [row for row in curated.tables["decisions"] if row["id"] == name]
    return found


def ids(curated: Curated, table: str) -> set[str]:
    return {row["id"] for row in curated.tables[table]}


def write_raw(records: Records, folder: Path, bad: Sequence[dict[str, Any]] = ()) -> Path:
    for role, schema in RAW_TABLES.items():
        write_table(records[role], schema, folder / f"{role}.parquet")
    write_table(bad, BAD_RECORD, folder / "bad_records.parquet")
    return folder


def write_curated(tables: Records, folder: Path) -> Path:
    for table, schema in CURATED_TABLES.items():
        write_table(tables[table], schema, folder / f"{table}.parquet")
    return folder


def measured_frames(tables: Records, tokenizer: Any, **changes: Any) -> dict[str, pd.DataFrame]:
    """The frames that validation looks at, with changes of MEASURING."""
    with tempfile.TemporaryDirectory() as folder:
        curated = write_curated(tables, Path(folder))
        return measure_tables(curated, tokenizer, **(MEASURING | changes))
