"""The sequence of curation: clean, filter, decontaminate, deduplicate, split; a decision for every raw row."""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import pyarrow as pa
from rich.console import Console
from rich.progress import track

from lmadapt.cleaning import clean
from lmadapt.decisions import (
    DOCUMENT_ROLES,
    INSTRUCTION_ROLES,
    ROLES,
    Row,
    alive,
    count_alive,
    count_decisions,
    decision_records,
    require_any_left,
)
from lmadapt.decontamination import find_leaks
from lmadapt.errors import UserError
from lmadapt.near_duplicates import near_duplicates, overlaps, shingle
from lmadapt.quality import conversation_problem, item_problem, text_problem
from lmadapt.splitting import heldout_entities
from lmadapt.words import fold, split_words

TABLE_OF = {
    "corpus": "corpus",
    "general_text": "replay_text",
    "instructions": "instructions",
    "general_instructions": "replay_instructions",
    "evaluation": "items",
}
Element = TypeVar("Element")
STDERR = Console(stderr=True)


@dataclass(frozen=True)
class Curated:
    """Rows of each curated table, points of the funnel, and the metrics of the stage."""

    tables: dict[str, list[dict[str, Any]]]
    funnel: list[dict[str, Any]]
    metrics: dict[str, Any]


def curate_tables(
    raw: Mapping[str, pa.Table],
    *,
    filters: Mapping[str, float],
    near_duplicate_jaccard: float,
    decontaminate_ngram_words: int,
    heldout_fraction: float,
    seed: int,
) -> Curated:
    """Curate the raw tables, by role; `filters` are the thresholds of quality.text_problem.

    Raises UserError when the corpus is empty, an id appears twice, or nothing is left of a role.
    """
    rows = [Row(role, record) for role in ROLES for record in raw[role].to_pylist()]
    _require_corpus_and_unique_ids(rows)
    funnel = count_alive(rows, "raw")
    leaks: dict[str, Counter[str]] = {}
    avoid: set[str] = set()
    steps: dict[str, Callable[[], None]] = {
        "cleaning": lambda: clean_rows(rows),
        "quality": lambda: filter_rows(rows, filters),
        "leaks": lambda: leaks.update(drop_leaks(rows, decontaminate_ngram_words)),
        "evaluation_entities": lambda: drop_evaluation_entities(rows),
        "document_duplicates": lambda: drop_duplicates(rows, DOCUMENT_ROLES, near_duplicate_jaccard),
        "heldout": lambda: avoid.update(hold_out(rows, heldout_fraction, near_duplicate_jaccard, seed)),
        "instruction_duplicates": lambda: drop_duplicates(rows, INSTRUCTION_ROLES, near_duplicate_jaccard),
    }
    for stage, step in steps.items():
        step()
        funnel += count_alive(rows, stage)
        require_any_left(rows)
    for row in alive(rows):
        row.split = row.split or TABLE_OF[row.role]
    tables = _tables(rows)
    return Curated(tables, funnel, _metrics(rows, tables, leaks, avoid))


def clean_rows(rows: Sequence[Row]) -> None:
    """Clean every text of every row in place, and record what changed."""
    for row in _progress(rows, "Cleaning"):
        record = row.record
        if row.role in DOCUMENT_ROLES:
            record["text"], rule, evidence = clean(record["text"] or "")
        elif row.role in INSTRUCTION_ROLES:
            contents = [clean(message["content"] or "") for message in record["messages"] or ()]
            roles = [message["role"] for message in record["messages"] or ()]
            record["messages"] = [{"role": r, "content": c[0]} for r, c in zip(roles, contents, strict=True)]
            _, rule, evidence = next((c for c in contents if c[1]), ("", "", ""))
        else:
            texts = [clean(text or "") for text in (record["prompt"], *(record["choices"] or ()))]
            record["prompt"], *record["choices"] = [text[0] for text in texts]
            _, rule, evidence = next((t for t in texts if t[1]), ("", "", ""))
        if rule:
            row.edit(rule, evidence)


def filter_rows(rows: Sequence[Row], filters: Mapping[str, float]) -> None:
    """Drop documents and conversations that fail a filter, and items that are broken or asked twice."""
    counts = split_words([row.text for row in rows]).counts.tolist()
    seen: dict[tuple[Any, ...], Row] = {}
    for row, words in _progress(list(zip(rows, counts, strict=True)), "Filtering"):
        row.words, problem = words, None
        if row.role == "evaluation":
            if sentence := item_problem(row.record):
                problem = ("broken_item", sentence)
            else:
                key = (row.record["group"], fold(row.text), *map(fold, row.record["choices"]))
                if seen.setdefault(key, row) is not row:
                    row.drop("duplicate_item", f"same prompt and choices as {seen[key].id}", seen[key])
                continue
        elif row.role in INSTRUCTION_ROLES:
            problem = conversation_problem(row.record["messages"])
        if problem is None and row.role != "evaluation":
            problem = text_problem(row.text, words, count_digits=row.role in INSTRUCTION_ROLES, **filters)  # type: ignore[arg-type]
        if problem:
            row.drop(*problem)


def drop_leaks(rows: Sequence[Row], ngram_words: int) -> dict[str, Counter[str]]:
    """Drop training rows that give away an item (policy: lmadapt.decontamination); counts by category and role."""
    items = [row.record for row in alive(rows, "evaluation")]
    found: dict[str, Counter[str]] = {f"{item['group']}/{item['category']}": Counter() for item in items}
    for role in _progress(ROLES[:4], "Looking for leaks"):
        parts = [(row, part) for row in alive(rows, role) for part in row.parts]
        texts = split_words([part for _, part in parts])
        for leak in find_leaks(texts, items, ngram_words=ngram_words, in_corpus=role == "corpus"):
            row, item = parts[leak.text][0], items[leak.item]
            if row.outcome != "dropped":
                row.drop("leak", f"item {item['id']}: {leak.words}")
                found[f"{item['group']}/{item['category']}"][role] += 1
    return found


def drop_evaluation_entities(rows: Sequence[Row]) -> None:
    """Drop instructions and replay about an entity that an item asks about; the corpus may hold its facts."""
    asked = {row.entity: row for row in alive(rows, "evaluation") if row.entity}
    for row in alive(rows, "general_text", *INSTRUCTION_ROLES):
        if row.entity in asked:
            row.drop("evaluation_entity", f"{row.entity} is asked about by item {asked[row.entity].id}")


def drop_duplicates(rows: Sequence[Row], roles: Sequence[str], min_jaccard: float) -> None:
    """Drop exact, then near-duplicates within and across `roles`.

    Kept is the row of the earlier role; within one role the longest, then the one with the smallest id.
    """
    ranked = sorted(alive(rows, *roles), key=lambda row: (roles.index(row.role), -len(row.text), row.id))
    first: dict[str, Row] = {}
    for row in ranked:
        kept = first.setdefault(fold(row.text), row)
        if kept is not row:
            row.drop("exact_duplicate", f"equals {kept.id} up to case and spacing", kept)
    ranked = alive(ranked)
    shingles = shingle(split_words([row.text for row in ranked]))
    matches = near_duplicates(shingles, range(len(ranked)), min_jaccard)
    for match in _progress(matches, f"Deduplicating {roles[0]}", total=len(ranked)):
        if match:
            kept = ranked[match.kept]
            evidence = f"Jaccard {match.jaccard:.3f} >= {min_jaccard:g} with {kept.id}"
            ranked[match.document].drop("near_duplicate", evidence, kept)


def hold_out(rows: Sequence[Row], fraction: float, min_jaccard: float, seed: int) -> set[str]:
    """Move a fraction of the entities of corpus and general text to held-out text; return those that were avoided.

    Avoided are entities with items, whose facts the corpus shall keep, and entities whose text stands for such a
    one as its duplicate. Training rows about a held-out entity, or near-duplicates of held-out text, are dropped.
    """
    avoid = {row.entity for row in alive(rows, "evaluation") if row.entity}
    avoid |= {row.duplicate_of.entity for row in rows if row.duplicate_of and row.entity in avoid}
    chosen: set[str] = set()
    for role in DOCUMENT_ROLES:
        chosen |= heldout_entities(map(_unit, alive(rows, role)), avoid=avoid, fraction=fraction, seed=seed)
    for row in alive(rows, *DOCUMENT_ROLES):
        row.split = "heldout_text" if _unit(row) in chosen else ""
    for row in alive(rows, *INSTRUCTION_ROLES):
        if row.entity in chosen:
            row.drop("heldout_entity", f"{row.entity} is held out")
    _drop_overlaps(rows, min_jaccard)
    return avoid


def _unit(row: Row) -> str:
    """What is split: the entity; a document without one stands for itself."""
    return row.entity or f"document {row.id}"


def _drop_overlaps(rows: Sequence[Row], min_jaccard: float) -> None:
    heldout = [row for row in alive(rows) if row.split]
    training = [row for row in alive(rows, *ROLES[:4]) if not row.split]
    texts = [(row, text) for row in heldout + training for text in dict.fromkeys([row.text, *row.parts])]
    shingles = shingle(split_words([text for _, text in texts]))
    others = range(len(heldout), len(texts))
    for match in overlaps(shingles, range(len(heldout)), others, min_jaccard):
        row, kept = texts[match.document][0], texts[match.kept][0]
        evidence = f"Jaccard {match.jaccard:.3f} >= {min_jaccard:g} with held-out {kept.id}"
        row.drop("heldout_overlap", evidence, kept)


def _require_corpus_and_unique_ids(rows: Sequence[Row]) -> None:
    if not any(row.role == "corpus" for row in rows):
        raise UserError(
            "data/raw/corpus.parquet: no documents; name your text under fetch.sources.corpus in params.yaml"
        )
    seen: dict[str, Row] = {}
    for row in rows:
        if (other := seen.setdefault(row.id, row)) is not row:
            raise UserError(
                f"data/raw/{row.role}.parquet: id {row.id!r} stands in two rows, of {other.record['source']} "
                f"{other.record['location']} and {row.record['source']} {row.record['location']}; ids must be unique"
            )


def _tables(rows: Sequence[Row]) -> dict[str, list[dict[str, Any]]]:
    tables: dict[str, list[dict[str, Any]]] = {table: [] for table in (*TABLE_OF.values(), "heldout_text")}
    for row in alive(rows):
        group = {"group": "domain" if row.role == "corpus" else "general"} if row.split == "heldout_text" else {}
        tables[row.split].append(row.record | group)
    return tables | {"decisions": decision_records(rows)}


def _metrics(
    rows: Sequence[Row], tables: Mapping[str, Any], leaks: Mapping[str, Counter[str]], avoid: set[str]
) -> dict[str, Any]:
    kept = {table: [row for row in alive(rows) if row.split == table] for table in tables if table != "decisions"}
    sizes = {
        table: {
            "rows": len(mine),
            "words": sum(row.words for row in mine),
            "characters": sum(len(row.text) for row in mine),
        }
        for table, mine in kept.items()
    }
    heldout = {row.entity for row in kept["heldout_text"]} - {""}
    return {
        "rows": count_decisions(rows),
        "tables": sizes,
        "leaks": {category: dict(counts) for category, counts in leaks.items()},
        "heldout_entities": len(heldout),
        "heldout_entities_with_items": len(heldout & avoid),
    }


def _progress(elements: Iterable[Element], description: str, total: int | None = None) -> Iterable[Element]:
    return track(elements, description, total=total, console=STDERR)
