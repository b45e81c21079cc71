"""What is done to a group of raw rows by itself: repair, measure, look for leaks, hash.

Groups do not depend on each other, so that other processes and machines can screen them
(lmadapt.curation.parallel).
"""

import hashlib
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from lmadapt.curation.boilerplate import remove_lines
from lmadapt.curation.cleaning import clean
from lmadapt.curation.decisions import INSTRUCTION_ROLES, RowDecision
from lmadapt.curation.decontamination import LeakFinder
from lmadapt.curation.languages import SAMPLE_CHARACTERS, find_languages, language_problem
from lmadapt.curation.near_duplicates import KEYS, WordStore, band_keys
from lmadapt.curation.personal_data import mask_personal_data
from lmadapt.curation.quality import Problem, conversation_problem, text_problems
from lmadapt.curation.signs import SHORT, find_signs
from lmadapt.curation.word_hashes import Words, digests, split_words, text_column

Record = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class ScreeningRules:
    """What the rows of one role are screened by."""

    role: str
    filters: Mapping[str, float]  # limits of quality.text_problems; the first that fails is named
    languages: Sequence[str]  # allowed ones; empty: all
    min_language_confidence: float
    personal_data: Sequence[str]  # kinds to replace, of personal_data.KINDS
    boilerplate: Mapping[str, np.ndarray]  # by source: hashes of lines to remove
    leaks: LeakFinder


@dataclass(frozen=True)
class ScreenedGroup:
    """A group after screening: cleaned rows, their decisions, and the words and keys of texts."""

    table: pa.Table  # from screen_packed: a compressed stream of it, pa.Buffer
    rows: list[RowDecision]
    words: Words
    keys: np.ndarray


@dataclass
class TrainingRows:
    """The rows of all groups screened so far, and the hashes that their texts are compared by."""

    rows: list[RowDecision] = field(default_factory=list)
    store: WordStore = field(default_factory=WordStore)
    _keys: list[np.ndarray] = field(default_factory=list)  # of each group; `keys_of` joins them

    def add(self, group: ScreenedGroup) -> None:
        """Append a group; its rows then number their texts as the store does."""
        for row in group.rows:
            row.texts = tuple(self.store.texts + text for text in row.texts)
        self.rows += group.rows
        self.store.append(group.words)
        self._keys.append(group.keys)

    def keys_of(self, texts: Sequence[int] | np.ndarray) -> np.ndarray:
        """Band keys of some texts, shape (len(texts), KEYS)."""
        self._keys = [np.concatenate([np.empty((0, KEYS), np.uint32), *self._keys])]
        return self._keys[0][np.asarray(texts, np.int64)]


@dataclass(slots=True)
class _Text:
    """A document, or what one message of a conversation says."""

    row: RowDecision
    content: str
    unmasked: str = ""  # before personal data in it was replaced; "" where none was


def screen_packed(table: pa.Table, rules: ScreeningRules) -> ScreenedGroup:
    """The same as `screen`, with the table as a compressed stream of Arrow: less to send."""
    screened, sink = screen(table, rules), pa.BufferOutputStream()
    options = pa.ipc.IpcWriteOptions(compression="lz4")
    with pa.ipc.new_stream(sink, table.schema, options=options) as stream:
        stream.write_table(screened.table)
    return replace(screened, table=sink.getvalue())


def screen(table: pa.Table, rules: ScreeningRules) -> ScreenedGroup:
    """Screen a group of raw rows of one role; row i has the texts numbered rows[i].texts."""
    records = table.to_pylist()
    rows = [_row(record, rules.role) for record in records]
    unmasked = _repair(rows, records, rules)
    texts = _number_texts(rows, records)
    column = text_column(texts)
    words = split_words(column)
    _judge(rows, records, column, words, rules)
    owner: dict[int, RowDecision] = {}  # of each part; of the whole text where a row has no parts
    for row in rows:
        owner |= dict.fromkeys(row.texts[1:] or row.texts, row)
    for leak in rules.leaks.find(words):
        if leak.text in owner:
            owner[leak.text].leaks += (leak,)
    _find_masked_leaks(unmasked, rules.leaks)
    if "text" in table.column_names:
        cleaned = column.slice(0, len(rows)).cast(pa.string())
        table = table.set_column(table.schema.get_field_index("text"), "text", cleaned)
    else:
        table = pa.Table.from_pylist(records, schema=table.schema)
    return ScreenedGroup(table, rows, words, band_keys(words))


def parts_of(record: Record, *, system: bool = False) -> list[str]:
    """The texts a reader sees one by one: the document, or each message.

    The system's message is left out unless `system` is true.
    """
    if "text" in record:
        return [record["text"] or ""]
    return [
        message["content"] or ""
        for message in record["messages"] or ()
        if system or message["role"] != "system"
    ]


def _row(record: Record, role: str) -> RowDecision:
    raw = "\n".join(parts_of(record, system=True))
    return RowDecision(
        role=role,
        source=record["source"],
        location=record["location"],
        id=record["id"],
        entity=sys.intern(record["entity"] or ""),
        category=record.get("category") or "",
        content_hash=hashlib.sha256(raw.encode()).hexdigest(),
    )


def _repair(
    rows: Sequence[RowDecision], records: Sequence[Record], rules: ScreeningRules
) -> list[_Text]:
    """Repair all texts of the records in place, and record the edits in `rows`.

    Returns the texts that are compared and in which personal data was replaced.
    """
    by_record = [
        [_Text(row, part) for part in parts_of(record, system=True)]
        for row, record in zip(rows, records, strict=True)
    ]
    texts = list(chain.from_iterable(by_record))
    _clean(texts)
    for source, lines in rules.boilerplate.items():
        _remove_boilerplate([text for text in texts if text.row.source == source], source, lines)
    _mask(texts, rules.personal_data)
    for record, own in zip(records, by_record, strict=True):
        if "text" in record:
            record["text"] = own[0].content
        else:
            messages = zip(record["messages"] or (), own, strict=True)
            record["messages"] = [message | {"content": text.content} for message, text in messages]
    systems = _system_texts(records, by_record)
    return [text for text in texts if text.unmasked and id(text) not in systems]


def _system_texts(records: Sequence[Record], by_record: Sequence[Sequence[_Text]]) -> set[int]:
    """Identities of the texts of system messages, which are not compared."""
    systems = set()
    for record, own in zip(records, by_record, strict=True):
        for message, text in zip(record.get("messages") or (), own, strict=False):
            if message["role"] == "system":
                systems.add(id(text))
    return systems


def _find_masked_leaks(texts: Sequence[_Text], finder: LeakFinder) -> None:
    """Add the leaks that stood in texts before personal data in them was replaced."""
    if not texts:
        return
    for leak in finder.find(split_words([text.unmasked for text in texts])):
        row = texts[leak.text].row
        if all((leak.item, leak.part) != (known.item, known.part) for known in row.leaks):
            row.leaks += (leak,)


def _clean(texts: Sequence[_Text]) -> None:
    for text in texts:
        text.content, rule, evidence = clean(text.content)
        if rule:
            text.row.edit(rule, evidence)


def _remove_boilerplate(texts: Sequence[_Text], source: str, lines: np.ndarray) -> None:
    for number, content, count in remove_lines([text.content for text in texts], lines):
        texts[number].content = content
        evidence = f"boilerplate: {count} lines that many documents of {source} have"
        texts[number].row.edit("boilerplate", evidence)


def _mask(texts: Sequence[_Text], kinds: Sequence[str]) -> None:
    found = mask_personal_data([text.content for text in texts], kinds)
    for number, (masked, counts) in found.items():
        texts[number].unmasked = texts[number].content
        texts[number].content = masked
        texts[number].row.edit("personal_data", f"personal data: {counts}")


def _number_texts(rows: Sequence[RowDecision], records: Sequence[Record]) -> list[str]:
    """The texts that are compared; sets the `texts` of each row to their numbers.

    First the text of each row, question and answer together; then the parts of the rows that
    have several.
    """
    parts = [parts_of(record) for record in records]
    texts = ["\n".join(own) for own in parts]
    for number, (row, own) in enumerate(zip(rows, parts, strict=True)):
        several = own if len(own) > 1 else []
        row.texts = (number, *range(len(texts), len(texts) + len(several)))
        texts += several
    return texts


def _judge(
    rows: Sequence[RowDecision],
    records: Sequence[Record],
    texts: pa.Array,
    words: Words,
    rules: ScreeningRules,
) -> None:
    """Measure every row; drop those that fail a filter, naming the first filter that fails."""
    whole = Words(words.hashes[: words.offsets[len(rows)]], words.offsets[: len(rows) + 1])
    column = texts.slice(0, len(rows))
    conversations = rules.role in INSTRUCTION_ROLES
    problems = text_problems(column, whole, rules.filters, count_digits=conversations)
    if conversations:
        pairs = zip(records, problems, strict=True)
        problems = [conversation_problem(record["messages"]) or own for record, own in pairs]
    if rules.languages:
        _judge_languages(column, problems, rules)
    counts, lengths = words.counts.tolist(), pc.utf8_length(column).to_pylist()
    for number, (row, digest) in enumerate(zip(rows, digests(column, whole), strict=True)):
        row.words, row.characters, row.digest = counts[number], lengths[number], digest
        row.answer_words = sum(counts[text] for text in row.texts[2::2])
        problem = problems[number]
        if problem:
            row.drop(*problem)
    short = [number for number, row in enumerate(rows) if row.words <= SHORT]
    for place, signs in find_signs(column.take(pa.array(short, pa.int64()))).items():
        rows[short[place]].signs = signs


def _judge_languages(
    texts: pa.Array, problems: list[Problem | None], rules: ScreeningRules
) -> None:
    """Add the problem of each text without one that is not in an allowed language."""
    samples = pc.utf8_slice_codeunits(texts, 0, SAMPLE_CHARACTERS)
    unsure = [number for number, problem in enumerate(problems) if not problem]
    languages = find_languages([samples[number].as_py() for number in unsure])
    for number, language in zip(unsure, languages, strict=True):
        confidence = rules.min_language_confidence
        problems[number] = language_problem(language, rules.languages, confidence)
