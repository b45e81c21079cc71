"""The curated tables as pandas frames of measurements: tokens, leaks, duplicates, problems.

A problem column is "" where a row has none, and says what is wrong where it has one. The tables
are read by groups of rows; the frames hold no text.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from lmadapt.core.errors import UserError
from lmadapt.core.tables import CURATED_TABLES, read_groups, read_table
from lmadapt.curation.decisions import TABLE_OF, TRAINING_ROLES, RowDecision, with_texts
from lmadapt.curation.decontamination import LeakFinder
from lmadapt.curation.duplicates import row_similarity
from lmadapt.curation.languages import find_languages, language_problem
from lmadapt.curation.near_duplicates import Match, near_duplicates
from lmadapt.curation.quality import Problem, conversation_problem, item_problem
from lmadapt.curation.screening import ScreeningRules, TrainingRows, parts_of, screen
from lmadapt.curation.word_hashes import fold
from lmadapt.models.chat import encode_conversation, encode_text
from lmadapt.validation.table_totals import TRAINING_TABLES, category_frame, totals_frame

Record = dict[str, Any]
Columns = dict[str, list[Any]]
Frames = dict[str, pd.DataFrame]
ROLE_OF = {TABLE_OF[role]: role for role in TRAINING_ROLES}
PLACE = ["id", "source", "location"]


def measure_tables(
    curated: Path,
    tokenizer: Any,
    *,
    near_duplicate_jaccard: float,
    decontaminate_ngram_words: int,
    languages: Sequence[str],
    min_language_confidence: float,
    personal_data: Sequence[str],
) -> Frames:
    """A frame for each curated table but `decisions`, and four frames about all of them.

    These are `tables` (columns and types), `categories` (of items), `totals` (one row) and
    `sizes` (rows, tokens a row and different words of each training table). A table with other
    columns counts as empty. Raises UserError when a file is missing or not Parquet.
    """
    schemas, files = _check_schemas(curated)
    items: list[Record] = []
    if "items" in files:
        items = read_table(files["items"], CURATED_TABLES["items"]).to_pylist()
    sound_items = [item for item in items if not item_problem(item)]
    frames: Frames = {"items": pd.DataFrame(_items(items, tokenizer))}
    rows: dict[str, list[RowDecision]] = {}
    training, sizes = TrainingRows(), []
    for table in ("heldout_text", *TRAINING_TABLES):
        finder = LeakFinder(
            sound_items, ngram_words=decontaminate_ngram_words, in_corpus=table == "corpus"
        )
        rules = ScreeningRules(
            role=ROLE_OF.get(table, "corpus"),
            filters={},
            languages=languages if table == "corpus" else [],
            min_language_confidence=min_language_confidence,
            personal_data=personal_data,
            boilerplate={},
            leaks=finder,
        )
        before = len(training.rows)
        groups = read_groups(files[table], CURATED_TABLES[table]) if table in files else ()
        frames[table], size = _measure_table(table, groups, tokenizer, rules, training)
        rows[table] = training.rows[before:]
        sizes.append(size)
    _mark_duplicates(frames, rows, training, near_duplicate_jaccard)
    _count_id_uses(frames, [*rows, "items"])
    return {
        **frames,
        "tables": schemas,
        "categories": category_frame(items),
        "totals": totals_frame(items, frames),
        "sizes": pd.DataFrame(sizes),
    }


def require_tokenizer(tokenizer: Any, folder: Path) -> Any:
    """The tokenizer, if it can encode conversations; else raises UserError with what it lacks."""
    if not tokenizer.chat_template or not tokenizer.eos_token:
        missing = "end-of-text token" if tokenizer.chat_template else "chat template"
        raise UserError(
            f"{folder}: the tokenizer has no {missing}; "
            "fetch.model.chat_template in params.yaml sets one"
        )
    return tokenizer


def _check_schemas(curated: Path) -> tuple[pd.DataFrame, dict[str, Path]]:
    """One row a table, whose `schema_problem` is "" if it fits; and the files of those that fit."""
    rows, files = [], {}
    for name, schema in CURATED_TABLES.items():
        file = curated / f"{name}.parquet"
        try:
            found = pq.read_schema(file).remove_metadata()
        except FileNotFoundError:
            raise UserError(f"{file}: no such file") from None
        except (pa.ArrowInvalid, OSError) as error:
            raise UserError(f"{file}: not a readable Parquet file: {error}") from None
        problem = ""
        if found.equals(schema):
            files[name] = file
        else:
            problem = f"expected {schema.to_string()}; found {found.to_string()}"
        row = {"id": name, "source": file.name, "location": ""}
        rows.append(row | {"schema_problem": problem.replace("\n", ", ")})
    return pd.DataFrame(rows), files


def _measure_table(
    table: str,
    groups: Iterable[pa.Table],
    tokenizer: Any,
    rules: ScreeningRules,
    training: TrainingRows,
) -> tuple[pd.DataFrame, Record]:
    """The frame of a training or held-out table, and its row of `sizes`; adds to `training`."""
    columns = _describe([], [], tokenizer) | {"language_problem": []}
    vocabulary = np.empty(0, np.uint32)
    without_languages = replace(rules, languages=[])
    for group in groups:
        screened = screen(group, without_languages)
        training.add(screened)
        vocabulary = np.union1d(vocabulary, screened.words.hashes)
        described = _describe(group.to_pylist(), screened.rows, tokenizer)
        described["language_problem"] = _language_problems(group, rules)
        for name, values in described.items():
            columns[name] += values
    frame = pd.DataFrame(columns)
    size = {
        "id": table,
        "source": f"{table}.parquet",
        "location": "",
        "rows": len(frame),
        "tokens_per_row": float(frame["tokens"].sum() / max(1, len(frame))),
        "vocabulary": len(vocabulary),
    }
    return frame, size


def _language_problems(group: pa.Table, rules: ScreeningRules) -> list[str]:
    if not rules.languages:
        return [""] * len(group)
    problems = [
        language_problem(found, rules.languages, rules.min_language_confidence)
        for found in find_languages(group["text"].to_pylist())
    ]
    return [problem[1] if problem else "" for problem in problems]


def _describe(records: Sequence[Record], rows: Sequence[RowDecision], tokenizer: Any) -> Columns:
    """Columns of a group of training or held-out rows."""
    problems = [_conversation_problem(record) for record in records]
    encoded = [
        Encoded() if rule else _encode(record, tokenizer)
        for record, (rule, _) in zip(records, problems, strict=True)
    ]
    return {
        **{name: [record[name] for record in records] for name in PLACE},
        "leak": [_leak(row) for row in rows],
        "personal_data": [_personal_data(row) for row in rows],
        "category": [record.get("category") for record in records],
        "group": [record.get("group") for record in records],
        "characters": [len("".join(parts_of(record)).strip()) for record in records],
        "role_order_problem": [
            evidence if rule == "role_order" else "" for rule, evidence in problems
        ],
        "empty_message_problem": [
            evidence if rule.startswith("empty") else "" for rule, evidence in problems
        ],
        "tokens": [one.tokens for one in encoded],
        "supervised_tokens": [one.supervised_tokens for one in encoded],
        "encoding_problem": [one.problem for one in encoded],
    }


def _conversation_problem(record: Record) -> Problem:
    """Rule and evidence, both "" for a sound conversation and for a document."""
    if "messages" not in record:
        return "", ""
    return conversation_problem(record["messages"] or ()) or ("", "")


def _leak(row: RowDecision) -> str:
    return f"item {row.leaks[0].item}: {row.leaks[0].words}" if row.leaks else ""


def _personal_data(row: RowDecision) -> str:
    return row.evidence if "personal data" in row.evidence else ""


@dataclass(frozen=True)
class Encoded:
    """How the tokenizer sees a row, or why it cannot encode it."""

    tokens: int = 0
    supervised_tokens: int = 0
    problem: str = ""


def _encode(record: Record, tokenizer: Any) -> Encoded:
    if "text" in record:
        tokens = _count_tokens(record["text"] or "", tokenizer)
        return Encoded(tokens, tokens)
    try:
        encoded = encode_conversation(tokenizer, record["messages"])
    except Exception as error:  # a chat template is a program of the model's author
        return Encoded(problem=f"{type(error).__name__}: {error}")
    return Encoded(len(encoded.input_ids), encoded.loss_tokens)


def _count_tokens(text: str, tokenizer: Any) -> int:
    return len(encode_text(tokenizer, text))


def _items(items: Sequence[Record], tokenizer: Any) -> Columns:
    longest = [max(item["choices"] or [""], key=len) or "" for item in items]
    asked = [f"{item['prompt']} {choice}" for item, choice in zip(items, longest, strict=True)]
    return {
        **{name: [item[name] for item in items] for name in PLACE},
        "item_problem": [item_problem(item) for item in items],
        "question": [_question(item) for item in items],
        "tokens": [_count_tokens(text, tokenizer) for text in asked],
    }


def _question(item: Record) -> str:
    """The same text for items of one group with the same system message, prompt and choices."""
    texts = [item["system"] or "", item["prompt"] or "", *item["choices"]]
    return "\n".join([item["group"] or "", *map(fold, texts)])


def _mark_duplicates(
    frames: Frames,
    rows: Mapping[str, list[RowDecision]],
    training: TrainingRows,
    min_jaccard: float,
) -> None:
    """Add the columns `near_duplicate_of` and `heldout_overlap`.

    They name a similar row of the same kind (documents or conversations), and held-out text
    similar to the row or to a part of it.
    """
    heldout = [(row, row.texts[0]) for row in rows["heldout_text"]]
    for kind in (TRAINING_TABLES[:2], TRAINING_TABLES[2:]):
        own = list(chain.from_iterable(rows[table] for table in kind))
        whole, parts = [(row, row.texts[0]) for row in own], with_texts(own)
        twins = _find_twins(whole, training, min_jaccard)
        overlaps = _find_twins([*heldout, *parts], training, min_jaccard, keepers=len(heldout))
        for table in kind:
            frames[table]["near_duplicate_of"] = [twins.get(row.id, "") for row in rows[table]]
            frames[table]["heldout_overlap"] = [overlaps.get(row.id, "") for row in rows[table]]


def _find_twins(
    texts: Sequence[tuple[RowDecision, int]],
    training: TrainingRows,
    min_jaccard: float,
    keepers: int | None = None,
) -> dict[str, str]:
    """By id of a row, the row it near-duplicates and their similarity."""
    places = np.array([text for _, text in texts], np.int64)
    keys = training.keys_of(places)
    rows = [row for row, _ in texts]

    def similarity(match: Match) -> float:  # held-out text is compared with parts of rows, too
        return row_similarity(match, rows) if keepers is None else match.jaccard

    twins = {}
    matches = near_duplicates(
        keys, places, training.store, min_jaccard, keepers=keepers, similarity=similarity
    )
    for match in matches:
        document, kept = rows[match.document], rows[match.kept]
        twins[document.id] = f"{kept.id} ({match.jaccard:.3f})"
    return twins


def _count_id_uses(frames: Frames, tables: Sequence[str]) -> None:
    """Add the column `id_uses`: how often the id of a row stands in all of the tables."""
    uses: Counter[str] = Counter()
    for table in tables:
        uses.update(frames[table]["id"])
    for table in tables:
        frames[table]["id_uses"] = [uses[name] for name in frames[table]["id"]]
