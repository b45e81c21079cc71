"""One decision for every raw row: what happened to it, by which rule, on what evidence."""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from lmadapt.core.errors import UserError
from lmadapt.core.tables import DECISION
from lmadapt.curation.decontamination import Leak

DOCUMENT_ROLES = ("corpus", "general_text")
INSTRUCTION_ROLES = ("instructions", "general_instructions")
TRAINING_ROLES = (*DOCUMENT_ROLES, *INSTRUCTION_ROLES)
ROLES = (*TRAINING_ROLES, "evaluation")
TABLE_OF = {
    "corpus": "corpus",
    "general_text": "replay_text",
    "instructions": "instructions",
    "general_instructions": "replay_instructions",
    "evaluation": "items",
}
EXAMPLES = 3  # problems that an error message lists


@dataclass(slots=True)
class RowDecision:
    """What curation decided about a raw row, and what it needs to decide; not the row's text."""

    role: str
    source: str
    location: str
    id: str  # unique over all tables
    entity: str = ""  # what the row is about; "": nothing named; of an item: its cluster
    category: str = ""
    content_hash: str = ""  # hexadecimal SHA-256 of the raw text
    outcome: str = "kept"  # kept | edited | dropped
    rule: str = ""
    evidence: str = ""
    duplicate_of: "RowDecision | None" = None
    split: str = ""  # the curated table that the row goes to
    words: int = 0  # of the cleaned text
    answer_words: int = 0  # of these, the words in the answers of a conversation
    characters: int = 0
    digest: bytes = b""  # of the cleaned text, ignoring case, Unicode form and spacing
    signs: str = ""  # of a short text: its operators and pictographs, as signs.signs_of gives them
    leaks: tuple[Leak, ...] = ()
    # Places in the WordStore: the whole text, then its parts if there are several.
    texts: tuple[int, ...] = ()

    def __reduce__(self) -> tuple[type["RowDecision"], tuple[Any, ...]]:
        """Pickle by position: sending a row to another process takes a third of the time."""
        return RowDecision, tuple(getattr(self, name) for name in self.__slots__)

    def edit(self, rule: str, evidence: str) -> None:
        """Record that the kept text differs from the raw one.

        The first rule is named; the evidence of every rule is kept.
        """
        self.outcome, self.rule = "edited", self.rule or rule
        self.evidence = "; ".join(filter(None, (self.evidence, evidence)))

    def drop(self, rule: str, evidence: str, duplicate_of: "RowDecision | None" = None) -> None:
        """Drop the row; `duplicate_of` is the row that is kept instead of a duplicate."""
        self.outcome, self.rule, self.evidence = "dropped", rule, evidence
        self.duplicate_of = duplicate_of
        self.split = ""


def remaining(rows: Iterable[RowDecision], *roles: str) -> list[RowDecision]:
    """The rows not dropped so far, of the given roles or of all."""
    return [row for row in rows if row.outcome != "dropped" and (not roles or row.role in roles)]


def with_texts(rows: Iterable[RowDecision]) -> list[tuple[RowDecision, int]]:
    """Each row with each of its texts: the whole, then its parts if there are several."""
    pairs = []
    for row in rows:
        pairs += [(row, text) for text in row.texts]
    return pairs


def unreadable_rows(records: Iterable[dict[str, Any]]) -> list[RowDecision]:
    """A dropped row for each record of the raw table `bad_records`."""
    rows = []
    for record in records:
        row = RowDecision(record["role"], record["source"], record["location"], record["id"])
        row.drop("bad_record", record["problem"])
        rows.append(row)
    return rows


def require_sound(rows: Sequence[RowDecision], max_bad_records: float) -> None:
    """Raise UserError when curation cannot start with these rows.

    That is when the corpus is empty, two rows have one id, or more than the share
    `max_bad_records` of a role's records cannot be read.
    """
    if not any(row.role == "corpus" for row in rows):
        raise UserError(
            "data/raw/corpus.parquet: no documents; "
            "name your text under fetch.sources.corpus in params.yaml"
        )
    for role in ROLES:
        _require_few_bad_records(role, [row for row in rows if row.role == role], max_bad_records)
    seen: dict[str, RowDecision] = {}
    for row in rows:
        other = seen.setdefault(row.id, row)
        if other is not row:
            places = f"{other.source} {other.location} and {row.source} {row.location}"
            raise UserError(
                f"data/raw/{row.role}.parquet: two rows have the id {row.id!r}: {places}; "
                "ids must be unique"
            )


def _require_few_bad_records(role: str, rows: Sequence[RowDecision], allowed: float) -> None:
    bad = [row.evidence for row in rows if row.rule == "bad_record"]
    if len(bad) > allowed * len(rows):
        examples = "".join(f"\n- {problem}" for problem in bad[:EXAMPLES])
        raise UserError(
            f"{role}: {len(bad)} of {len(rows)} records cannot be read, and "
            f"curate.max_bad_records allows the share {allowed:g}:{examples}"
        )


def require_any_left(rows: Sequence[RowDecision]) -> None:
    """Raise UserError when a role had rows and has none left; name the rule that removed most."""
    for role in ("corpus", "instructions", "evaluation"):
        own = [row for row in rows if row.role == role]
        if own and not remaining(own):
            [(rule, count)] = Counter(row.rule for row in own).most_common(1)
            example = next(row for row in own if row.rule == rule)
            raise UserError(
                f"data/raw/{role}.parquet: none of {len(own)} rows is left; the rule `{rule}` "
                f"removed most, {count}, for example {example.source} {example.location}: "
                f"{example.evidence}"
            )


def decision_records(rows: Iterable[RowDecision]) -> Iterator[dict[str, Any]]:
    """Rows of the table `decisions`; `duplicate_of` is the id at the end of a duplicate chain."""
    for row in rows:
        record = {column: getattr(row, column) for column in DECISION.names}
        yield record | {"duplicate_of": _kept_instead(row)}


def _kept_instead(row: RowDecision) -> str:
    if row.duplicate_of is None:
        return ""
    while row.duplicate_of is not None:
        row = row.duplicate_of
    return row.id
