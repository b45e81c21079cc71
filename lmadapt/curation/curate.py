"""The sequence of curation: screen, decontaminate, deduplicate, split; a decision for every raw row.

Texts stay in files: groups of rows are screened one after the other (lmadapt.curation.screening) and written to a scratch
folder; memory holds a Row, the band keys and the places of the words of each. Then it is decided who stays, and the
scratch tables are read once more to write those rows to the curated tables.
"""

import hashlib
import tempfile
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from itertools import chain, groupby
from operator import itemgetter
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from rich.console import Console
from rich.progress import track

from lmadapt.core.tables import (
    BAD_RECORD,
    CURATED_TABLES,
    RAW_TABLES,
    count_groups,
    open_table,
    read_group,
    read_table,
    write_table,
)
from lmadapt.curation.boilerplate import common_lines, line_hashes
from lmadapt.curation.cleaning import clean
from lmadapt.curation.decisions import (
    DOCUMENT_ROLES,
    INSTRUCTION_ROLES,
    ROLES,
    TABLE_OF,
    Row,
    alive,
    bad_rows,
    count_decisions,
    count_rows,
    decision_records,
    require_any_left,
    require_sound,
)
from lmadapt.curation.decontamination import LeakFinder
from lmadapt.curation.difficulty import mean_surprisals
from lmadapt.curation.near_duplicates import WordStore, near_duplicates
from lmadapt.curation.parallel import map_groups, map_threads, start_processes
from lmadapt.curation.paraphrases import find_paraphrases
from lmadapt.curation.quality import item_problem
from lmadapt.curation.screening import Rules, Screened, Training, parts_of, screen
from lmadapt.curation.splitting import heldout_entities, rank
from lmadapt.curation.word_hashes import fold, split_words

STDERR = Console(stderr=True)
QUANTILES = (0.0, 0.05, 0.5, 0.95, 1.0)


def curate_tables(
    raw: Path,
    curated: Path,
    *,
    screening: Mapping[str, Any],
    running: Mapping[str, Any],
    boilerplate_fraction: float | None,
    near_duplicate_jaccard: float,
    decontaminate_ngram_words: int,
    on_leak: str,
    paraphrase_model: str | None,
    paraphrase_similarity: float,
    heldout_fraction: float,
    max_instructions_per_category: int | None,
    max_bad_records: float,
    seed: int,
) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Curate the raw tables of folder `raw` into tables in `curated`; returns points of the funnel, and metrics.

    `screening` are the settings of screening.Rules that hold for every role, `running` those of engines.map_groups.
    Raises UserError when a table is missing, the corpus is empty, an id appears twice, more than the share
    `max_bad_records` of the records of a role could not be read, or nothing is left of a role.
    """
    threads = start_processes(count_groups(raw / "corpus.parquet", RAW_TABLES["corpus"]), **running)
    items = read_table(raw / "evaluation.parquet", RAW_TABLES["evaluation"]).to_pylist()
    item_rows = screen_items(items)
    kept = [item for row, item in zip(item_rows, items, strict=True) if row.outcome != "dropped"]
    with tempfile.TemporaryDirectory(dir=curated, prefix=".scratch.") as scratch:
        training = Training()
        finders = {
            lenient: LeakFinder(kept, ngram_words=decontaminate_ngram_words, in_corpus=lenient)
            for lenient in (True, False)
        }
        for role in ROLES[:4]:
            fraction = boilerplate_fraction if role in DOCUMENT_ROLES else None
            lines = _common_lines(raw / f"{role}.parquet", role, fraction, threads)
            rules = Rules(
                role=role, boilerplate=lines, leaks=finders[role == "corpus"], **screening
            )
            _screen_role(raw / f"{role}.parquet", Path(scratch, role), rules, training, running)
        rows = [*training.rows, *item_rows]
        all_rows = [
            *rows,
            *bad_rows(read_table(raw / "bad_records.parquet", BAD_RECORD).to_pylist()),
        ]
        require_sound(all_rows, max_bad_records)
        funnel = (
            count_rows(all_rows, "raw")
            + count_rows(rows, "readable")
            + count_rows(alive(rows), "quality")
        )
        require_any_left(rows)
        if paraphrase_model:
            mark_paraphrases(rows, Path(scratch), kept, paraphrase_model, paraphrase_similarity)
        leaks: dict[str, Any] = {}
        avoid: set[str] = set()
        steps: dict[str, Callable[[], None]] = {
            "leaks": lambda: leaks.update(drop_leaks(rows, on_leak)),
            "evaluation_entities": lambda: drop_evaluation_entities(rows),
            "document_duplicates": lambda: drop_duplicates(
                rows, DOCUMENT_ROLES, training, near_duplicate_jaccard
            ),
            "heldout": lambda: avoid.update(
                hold_out(rows, training, heldout_fraction, near_duplicate_jaccard, seed)
            ),
            "instruction_duplicates": lambda: drop_duplicates(
                rows, INSTRUCTION_ROLES, training, near_duplicate_jaccard
            ),
            "category_cap": lambda: cap_categories(rows, max_instructions_per_category, seed),
        }
        for stage, step in steps.items():
            step()
            funnel += count_rows(alive(rows), stage)
            require_any_left(rows)
        for row in alive(rows):
            row.split = row.split or TABLE_OF[row.role]
        kept = [
            item for row, item in zip(item_rows, items, strict=True) if row.outcome != "dropped"
        ]
        decisions = decision_records(all_rows)
        last: list[Callable[[], Any]] = [
            lambda: _write_tables(training.rows, Path(scratch), curated, threads),
            lambda: write_table(kept, CURATED_TABLES["items"], curated / "items.parquet"),
            lambda: write_table(
                decisions, CURATED_TABLES["decisions"], curated / "decisions.parquet"
            ),
            lambda: _metrics(all_rows, leaks, avoid, training.store),
        ]
        *_, metrics = map_threads(lambda step: step(), last, threads)
    return funnel, metrics


def screen_items(items: Sequence[dict[str, Any]]) -> list[Row]:
    """Clean evaluation items in place; drop those that are broken, or asked before in their group."""
    rows = [
        Row(
            "evaluation",
            i["source"],
            i["location"],
            i["id"],
            i["cluster"] or "",
            f"{i['group']}/{i['category']}",
        )
        for i in items
    ]
    seen: dict[tuple[Any, ...], Row] = {}
    for row, item in zip(rows, items, strict=True):
        raw = [item["prompt"] or "", *(choice or "" for choice in item["choices"] or ())]
        row.content_hash = hashlib.sha256("\0".join(raw).encode()).hexdigest()
        texts = [clean(text) for text in raw]
        item["prompt"], *item["choices"] = [text for text, _, _ in texts]
        for _, rule, evidence in texts:
            if rule:
                row.edit(rule, evidence)
        row.characters = len(item["prompt"])
        key = (item["group"], *map(fold, (item["prompt"], *item["choices"])))
        if problem := item_problem(item):
            row.drop("broken_item", problem)
        elif (first := seen.setdefault(key, row)) is not row:
            row.drop("duplicate_item", f"same prompt and choices as {first.id}", first)
    for row, words in zip(
        rows, split_words([item["prompt"] for item in items]).counts.tolist(), strict=True
    ):
        row.words = words
    return rows


def _common_lines(
    file: Path, role: str, fraction: float | None, threads: int
) -> dict[str, np.ndarray]:
    """By source, hashes of the lines that at least `fraction` of its documents have; its rows follow each other."""
    if not fraction:
        return {}
    groups = range(count_groups(file, RAW_TABLES[role]))
    parts = chain.from_iterable(map_threads(partial(_hashed_lines, file, role), groups, threads))
    found = {}
    for source, mine in groupby(parts, key=itemgetter(0)):
        if len(lines := common_lines((hashed for _, hashed in mine), fraction)):
            found[source] = lines
    return found


def _hashed_lines(
    file: Path, role: str, group: int
) -> list[tuple[str, tuple[np.ndarray, np.ndarray]]]:
    """The sources in a group of rows, and `line_hashes` of their texts."""
    table = read_group(file, RAW_TABLES[role], group)
    texts, sources = (
        table["text"].cast(pa.large_string()).fill_null(""),
        table["source"].unique().to_pylist(),
    )
    mine = (
        texts.filter(pc.equal(table["source"], source)) if len(sources) > 1 else texts
        for source in sources
    )
    return [
        (source, line_hashes(own.combine_chunks()))
        for source, own in zip(sources, mine, strict=True)
    ]


def _screen_role(
    file: Path, scratch: Path, rules: Rules, training: Training, running: Mapping[str, Any]
) -> None:
    schema = RAW_TABLES[rules.role]
    screened = map_groups(partial(_screen, rules=rules), file, schema, scratch.parent, **running)
    groups = count_groups(file, schema)
    scratch.mkdir()
    for number, part in enumerate(
        track(screened, f"Screening {rules.role}", total=groups, console=STDERR)
    ):
        (scratch / f"{number:09}").write_bytes(part.table)
        training.add(part)


def _screen(table: pa.Table, rules: Rules) -> Screened:
    """The same as `screen`, the table as a compressed stream of Arrow: this work too is done where groups are."""
    screened, sink = screen(table, rules), pa.BufferOutputStream()
    with pa.ipc.new_stream(
        sink, table.schema, options=pa.ipc.IpcWriteOptions(compression="lz4")
    ) as stream:
        stream.write_table(screened.table)
    return replace(screened, table=sink.getvalue())


def mark_paraphrases(
    rows: Sequence[Row],
    scratch: Path,
    items: Sequence[dict[str, Any]],
    model: str,
    min_similarity: float,
) -> None:
    """Add to the leaks of instructions and replayed ones those of their turns that are paraphrases of items."""
    for role in INSTRUCTION_ROLES:
        own = [parts_of(record) for group in _read(scratch / role) for record in group.to_pylist()]
        mine = [row for row in rows if row.role == role]
        turns = [(row, text) for row, parts in zip(mine, own, strict=True) for text in parts]
        texts = [text for _, text in turns]
        for leak in find_paraphrases(texts, items, model=model, min_similarity=min_similarity):
            turns[leak.text][0].leaks += (leak,)


def drop_leaks(rows: Sequence[Row], on_leak: str) -> dict[str, Any]:
    """Drop the training rows that give away an item (policy: lmadapt.curation.decontamination), or those items.

    on_leak: drop_document | drop_item. Returns for each category of items, by role, how many training rows were found
    to hold a question or an answer of how many items.
    """
    asked = {row.id: row for row in rows if row.role == "evaluation"}
    found: dict[str, dict[str, Any]] = {row.category: {} for row in alive(asked.values())}
    for row in alive(rows, *ROLES[:4]):
        for leak in row.leaks:
            item = asked[leak.item]
            report = found[item.category].setdefault(row.role, defaultdict(set))
            report["documents"].add(row.id)
            report[f"{leak.part}s"].add(item.id)
            if on_leak == "drop_item" and item.outcome != "dropped":
                item.drop("leaked_item", f"{row.role} {row.id} holds its {leak.part}: {leak.words}")
        if row.leaks and on_leak == "drop_document":
            first = row.leaks[0]
            row.drop("leak", f"{first.part} of item {first.item}: {first.words}")
    return {
        category: {
            role: {key: len(ids) for key, ids in report.items()} for role, report in roles.items()
        }
        for category, roles in found.items()
    }


def drop_evaluation_entities(rows: Sequence[Row]) -> None:
    """Drop instructions and replay about an entity that an item asks about; the corpus may hold its facts."""
    asked = {row.entity: row for row in alive(rows, "evaluation") if row.entity}
    for row in alive(rows, "general_text", *INSTRUCTION_ROLES):
        if row.entity in asked:
            row.drop(
                "evaluation_entity", f"{row.entity} is asked about by item {asked[row.entity].id}"
            )


def drop_duplicates(
    rows: Sequence[Row], roles: Sequence[str], training: Training, min_jaccard: float
) -> None:
    """Drop exact, then near-duplicates within and across `roles`.

    Kept is the row of the earlier role; within one role the longest, then the one with the smallest id.
    """
    ranked = sorted(
        alive(rows, *roles), key=lambda row: (roles.index(row.role), -row.characters, row.id)
    )
    first: dict[bytes, Row] = {}
    for row in ranked:
        kept = first.setdefault(row.digest, row)
        if kept is not row:
            row.drop("exact_duplicate", f"equals {kept.id} up to case and spacing", kept)
    ranked = alive(ranked)
    texts = np.array([row.texts[0] for row in ranked], np.int64)
    for match in near_duplicates(training.keys_of(texts), texts, training.store, min_jaccard):
        kept = ranked[match.kept]
        evidence = f"Jaccard {match.jaccard:.3f} >= {min_jaccard:g} with {kept.id}"
        ranked[match.document].drop("near_duplicate", evidence, kept)


def hold_out(
    rows: Sequence[Row], training: Training, fraction: float, min_jaccard: float, seed: int
) -> set[str]:
    """Move a fraction of the entities of corpus and general text to held-out text; return those that were avoided.

    Avoided are entities with items, whose facts the corpus shall keep, and entities whose text stands for such a
    one as its duplicate. Instructions about a held-out entity, or with a part that near-duplicates held-out text, are
    dropped; documents that do were dropped before.
    """
    avoid = {row.entity for row in alive(rows, "evaluation") if row.entity}
    avoid |= {row.duplicate_of.entity for row in rows if row.duplicate_of and row.entity in avoid}
    chosen: set[str] = set()
    for role in DOCUMENT_ROLES:
        chosen |= heldout_entities(
            map(_unit, alive(rows, role)), avoid=avoid, fraction=fraction, seed=seed
        )
    for row in alive(rows, *DOCUMENT_ROLES):
        row.split = "heldout_text" if _unit(row) in chosen else ""
    for row in alive(rows, *INSTRUCTION_ROLES):
        if row.entity in chosen:
            row.drop("heldout_entity", f"{row.entity} is held out")
    heldout = [row for row in alive(rows, *DOCUMENT_ROLES) if row.split]
    others = alive(rows, *INSTRUCTION_ROLES)
    owners = [*heldout, *(row for row in others for _ in row.texts)]
    texts = np.array(
        [row.texts[0] for row in heldout] + [text for row in others for text in row.texts]
    )
    keys = training.keys_of(texts)
    for match in near_duplicates(keys, texts, training.store, min_jaccard, keepers=len(heldout)):
        kept = owners[match.kept]
        evidence = f"Jaccard {match.jaccard:.3f} >= {min_jaccard:g} with held-out {kept.id}"
        owners[match.document].drop("heldout_overlap", evidence, kept)
    return avoid


def cap_categories(rows: Sequence[Row], most: int | None, seed: int) -> None:
    """Drop instructions beyond `most` of a category; who stays depends on `seed` and the id alone."""
    counts: Counter[str] = Counter()
    for row in sorted(
        alive(rows, "instructions") if most else (), key=lambda row: rank(row.id, seed)
    ):
        counts[row.category] += 1
        if counts[row.category] > (most or 0):
            row.drop("category_cap", f"{row.category} has more than {most} instructions")


def _unit(row: Row) -> str:
    """What is split: the entity; a document without one stands for itself."""
    return row.entity or f"document {row.id}"


def _write_tables(rows: Sequence[Row], scratch: Path, curated: Path, threads: int) -> None:
    """Write the kept training rows, group by group, to the table of their split."""
    coming = iter(rows)
    with ExitStack() as stack:
        tables = [table for table in CURATED_TABLES if table not in ("items", "decisions")]
        write = {
            t: stack.enter_context(open_table(CURATED_TABLES[t], curated / f"{t}.parquet"))
            for t in tables
        }
        for role in ROLES[:4]:
            for group in _read(scratch / role, threads):
                splits = pa.array([next(coming).split for _ in range(len(group))])
                for split in filter(None, splits.unique().to_pylist()):
                    part = group.filter(pc.equal(splits, split))
                    if split == "heldout_text":
                        kind = "domain" if role == "corpus" else "general"
                        part = part.append_column("group", pa.array([kind] * len(part)))
                    write[split](part)


def _read(scratch: Path, threads: int = 1) -> Iterator[pa.Table]:
    """The groups that were screened."""
    files = sorted(scratch.iterdir())
    return map_threads(
        lambda file: pa.ipc.open_stream(file.read_bytes()).read_all(), files, threads
    )


def _metrics(
    rows: Sequence[Row], leaks: Mapping[str, Any], avoid: set[str], store: WordStore
) -> dict[str, Any]:
    tables = {
        table: [row for row in alive(rows) if row.split == table]
        for table in CURATED_TABLES
        if table != "decisions"
    }
    heldout = {row.entity for row in tables["heldout_text"]} - {""}
    trained = np.array(
        [row.texts[0] for row in alive(rows, *ROLES[:4]) if row.split != "heldout_text"], np.int64
    )
    return {
        "rows": count_decisions(rows),
        "tables": {table: _sizes(mine, store, trained) for table, mine in tables.items()},
        "leaks": leaks,
        "heldout_entities": len(heldout),
        "heldout_entities_with_items": len(heldout & avoid),
    }


def _sizes(rows: Sequence[Row], store: WordStore, trained: np.ndarray) -> dict[str, Any]:
    """Rows, words and characters of a table, and quantiles (0, 5, 50, 95, 100 %) of their lengths in words.

    Of conversations also quantiles of the length of the answers, and of the surprisal of the last of them under the
    word frequencies of the texts `trained`, in bits a word.
    """
    sizes = {
        "rows": len(rows),
        "words": sum(row.words for row in rows),
        "characters": sum(row.characters for row in rows),
        "words_quantiles": _quantiles([row.words for row in rows]),
    }
    if rows and rows[0].role in INSTRUCTION_ROLES:
        sizes["answer_words_quantiles"] = _quantiles([row.answer_words for row in rows])
        answers = np.array([row.texts[-1] for row in rows], np.int64)
        sizes["answer_surprisal_quantiles"] = _quantiles(mean_surprisals(store, trained, answers))
    return sizes


def _quantiles(values: Sequence[int] | np.ndarray) -> list[float]:
    return np.quantile(values, QUANTILES).round(1).tolist() if len(values) else []
