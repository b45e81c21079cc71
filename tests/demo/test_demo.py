import importlib
from collections import Counter, defaultdict
from itertools import chain, product
from typing import Any

import pyarrow as pa
import pytest

from lmadapt.core.errors import UserError
from lmadapt.core.tables import RAW_TABLES
from lmadapt.sources.by_role import module_rows

SETS = (
    "arithmetic",
    "behaviour",
    "conversations",
    "python_documentation",
    "weaknesses",
    "world_facts",
)
OFFERED = [
    (name, role)
    for name, role in product(SETS, RAW_TABLES)
    if hasattr(importlib.import_module(f"demo.{name}"), role)
]


def all_rows(packages: dict[str, str]) -> dict[tuple[str, str], list[dict[str, Any]]]:
    return {
        (name, role): list(module_rows(f"demo.{name}", role, packages)) for name, role in OFFERED
    }


def test_every_module_fills_the_columns_of_its_roles_with_unique_ids(
    packages: dict[str, str],
) -> None:
    tables = all_rows(packages)
    assert len(tables) == 11
    for (_, role), rows in tables.items():
        assert rows
        assert set(rows[0]) == set(RAW_TABLES[role].names)
        pa.Table.from_pylist(rows, schema=RAW_TABLES[role])
    ids = [row["id"] for row in chain.from_iterable(tables.values())]
    assert len(ids) == len(set(ids))


def test_a_second_pass_gives_the_same_rows(packages: dict[str, str]) -> None:
    assert all_rows(packages) == all_rows(packages)


def test_no_entity_is_both_taught_and_evaluated(packages: dict[str, str]) -> None:
    tables = all_rows(packages)
    for name in SETS:
        evaluated = {row["cluster"] for row in tables.get((name, "evaluation"), [])}
        instructions = tables.get((name, "instructions"), [])
        instructions += tables.get((name, "general_instructions"), [])
        taught = {row["entity"] for row in instructions}
        assert not evaluated & taught


def test_the_answer_is_equally_often_in_each_place(packages: dict[str, str]) -> None:
    places: dict[str, Counter[int]] = defaultdict(Counter)
    evaluated = [rows for (_, role), rows in all_rows(packages).items() if role == "evaluation"]
    for row in chain.from_iterable(evaluated):
        if row["choices"]:
            assert len({choice.casefold() for choice in row["choices"]}) == 4
            places[row["category"]][row["answer"]] += 1
    for counts in places.values():
        assert max(counts.values()) - min(counts[place] for place in range(4)) <= 1


def test_a_wrong_module_role_or_package_is_named(packages: dict[str, str]) -> None:
    with pytest.raises(UserError, match=r"the project has no module 'demo.x'"):
        list(module_rows("demo.x", "corpus", packages))
    with pytest.raises(UserError, match=r"'demo.behaviour' has no corpus; it offers: evaluation"):
        list(module_rows("demo.behaviour", "corpus", packages))
    with pytest.raises(UserError, match="package cwe2 is missing"):
        list(module_rows("demo.weaknesses", "corpus", {}))
