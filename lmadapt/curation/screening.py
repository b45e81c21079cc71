"""What is done to a group of raw rows by itself: cleaned, measured against the rules, searched for leaks, hashed.

Groups are independent of each other, so that they can be screened in threads or on other machines (lmadapt.curation.parallel).
"""

import hashlib
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from lmadapt.curation.boilerplate import remove_lines
from lmadapt.curation.cleaning import clean
from lmadapt.curation.decisions import INSTRUCTION_ROLES, Row
from lmadapt.curation.decontamination import LeakFinder
from lmadapt.curation.languages import SAMPLE_CHARACTERS, find_languages, language_problem
from lmadapt.curation.near_duplicates import KEYS, WordStore, band_keys
from lmadapt.curation.personal_data import mask_personal_data
from lmadapt.curation.quality import conversation_problem, text_problems
from lmadapt.curation.word_hashes import Words, digests, split_words, text_column

Record = dict[str, Any]


@dataclass(frozen=True)
class Rules:
    """What a group is screened by."""

    role: str
    filters: Mapping[str, float]  # thresholds of quality.text_problems, in their order
    languages: Sequence[str]  # allowed ones; empty: all
    min_language_confidence: float
    personal_data: Sequence[str]  # kinds to replace, of personal_data.KINDS
    boilerplate: Mapping[str, np.ndarray]  # by source: hashes of lines to remove
    leaks: LeakFinder


@dataclass(frozen=True)
class Screened:
    """A group after screening: its cleaned rows, a decision for each so far, and the words and keys of their texts."""

    table: pa.Table  # from another process: a compressed stream of it, pa.Buffer
    rows: list[Row]
    words: Words
    keys: np.ndarray


@dataclass
class Training:
    """The rows of all groups screened so far, and what their texts are compared by."""

    rows: list[Row] = field(default_factory=list)
    store: WordStore = field(default_factory=WordStore)
    keys: list[np.ndarray] = field(
        default_factory=list
    )  # band keys of each group of texts; joined by `keys_of`

    def add(self, screened: Screened) -> None:
        """Append a group; its rows number their texts from now on as the store does."""
        for row in screened.rows:
            row.texts = tuple(self.store.texts + text for text in row.texts)
        self.rows += screened.rows
        self.store.append(screened.words)
        self.keys.append(screened.keys)

    def keys_of(self, texts: Sequence[int] | np.ndarray) -> np.ndarray:
        """Band keys of some texts, shape (len(texts), KEYS)."""
        self.keys = [np.concatenate([np.empty((0, KEYS), np.uint32), *self.keys])]
        return self.keys[0][np.asarray(texts, np.int64)]


def screen(table: pa.Table, rules: Rules) -> Screened:
    """Screen a group of raw rows of one role; the texts of row i are numbered as in rows[i].texts."""
    records = table.to_pylist()
    rows = [_row(record, rules.role) for record in records]
    contents = [parts_of(record, system=True) for record in records]
    _repair(rows, contents, rules)
    for record, texts in zip(records, contents, strict=True):
        if "text" in record:
            record["text"] = texts[0]
        else:
            messages = zip(record["messages"] or (), texts, strict=True)
            record["messages"] = [message | {"content": text} for message, text in messages]
    texts = _number_texts(rows, records)
    column = text_column(texts)
    words = split_words(column)
    _judge(rows, records, column, words, rules)
    owner = {text: row for row in rows for text in (row.texts[1:] or row.texts)}
    for leak in rules.leaks.find(words):
        if leak.text in owner:
            owner[leak.text].leaks += (leak,)
    if "text" in table.column_names:
        cleaned = column.slice(0, len(rows)).cast(pa.string())
        table = table.set_column(table.schema.get_field_index("text"), "text", cleaned)
    else:
        table = pa.Table.from_pylist(records, schema=table.schema)
    return Screened(table, rows, words, band_keys(words))


def _row(record: Record, role: str) -> Row:
    hashed = hashlib.sha256("\n".join(parts_of(record, system=True)).encode()).hexdigest()
    place = (record["source"], record["location"], record["id"])
    return Row(
        role, *place, sys.intern(record["entity"] or ""), record.get("category") or "", hashed
    )


def _repair(rows: Sequence[Row], contents: Sequence[list[str]], rules: Rules) -> None:
    """Clean all texts in place, and record the edits: repairs, boilerplate of documents, personal data."""
    flat = [
        (row, texts, place)
        for row, texts in zip(rows, contents, strict=True)
        for place in range(len(texts))
    ]
    for row, texts, place in flat:
        texts[place], rule, evidence = clean(texts[place])
        if rule:
            row.edit(rule, evidence)
    for source, lines in rules.boilerplate.items():
        mine = [one for one in flat if one[0].source == source]
        for number, remaining, count in remove_lines(
            [texts[place] for _, texts, place in mine], lines
        ):
            row, texts, place = mine[number]
            texts[place] = remaining
            row.edit(
                "boilerplate", f"boilerplate: {count} lines that many documents of {source} have"
            )
    found = mask_personal_data([texts[place] for _, texts, place in flat], rules.personal_data)
    for number, (masked, counts) in found.items():
        row, texts, place = flat[number]
        texts[place] = masked
        row.edit("personal_data", f"personal data: {counts}")


def _number_texts(rows: Sequence[Row], records: Sequence[Record]) -> list[str]:
    """What is compared: the text of each row, question and answer together, then their parts; sets rows[i].texts."""
    parts = [parts_of(record) for record in records]
    texts = ["\n".join(own) for own in parts]
    for number, (row, own) in enumerate(zip(rows, parts, strict=True)):
        several = own if len(own) > 1 else []
        row.texts = (number, *range(len(texts), len(texts) + len(several)))
        texts += several
    return texts


def parts_of(record: Record, *, system: bool = False) -> list[str]:
    """The texts a reader would see apart: the document, or what each message says, the system's only on request."""
    if "text" in record:
        return [record["text"] or ""]
    return [
        message["content"] or ""
        for message in record["messages"] or ()
        if system or message["role"] != "system"
    ]


def _judge(
    rows: Sequence[Row], records: Sequence[Record], texts: pa.Array, words: Words, rules: Rules
) -> None:
    """Measure every row, and drop those that fail a filter, for the first they fail."""
    whole = Words(words.hashes[: words.offsets[len(rows)]], words.offsets[: len(rows) + 1])
    column = texts.slice(0, len(rows))
    conversations = rules.role in INSTRUCTION_ROLES
    problems = text_problems(column, whole, rules.filters, count_digits=conversations)
    if conversations:
        problems = [
            conversation_problem(record["messages"]) or own
            for record, own in zip(records, problems, strict=True)
        ]
    unsure = (
        [number for number, problem in enumerate(problems) if not problem]
        if rules.languages
        else []
    )
    samples = pc.utf8_slice_codeunits(column, 0, SAMPLE_CHARACTERS)
    for number, language in zip(
        unsure, find_languages([samples[n].as_py() for n in unsure]), strict=True
    ):
        problems[number] = language_problem(
            language, rules.languages, rules.min_language_confidence
        )
    counts, lengths = words.counts.tolist(), pc.utf8_length(column).to_pylist()
    for number, (row, digest) in enumerate(zip(rows, digests(column, whole), strict=True)):
        row.words, row.characters, row.digest = counts[number], lengths[number], digest
        row.answer_words = sum(counts[text] for text in row.texts[2::2])
        if problem := problems[number]:
            row.drop(*problem)
