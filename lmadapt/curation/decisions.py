"""One decision for every raw row: what happened to it, by which rule, on what evidence."""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from lmadapt.core.errors import UserError
from lmadapt.core.tables import DECISION
from lmadapt.curation.decontamination import Leak

ROLES = ("corpus", "general_text", "instructions", "general_instructions", "evaluation")
DOCUMENT_ROLES, INSTRUCTION_ROLES = ROLES[:2], ROLES[2:4]
TABLE_OF = dict(
    zip(
        ROLES,
        ("corpus", "replay_text", "instructions", "replay_instructions", "items"),
        strict=True,
    )
)


@dataclass(slots=True)
class Row:
    """A raw row on its way through curation: what is decided of it, and what the decisions need; not its text."""

    role: str
    source: str
    location: str
    id: str  # unique over all tables
    entity: str = ""  # what the row is about; "" = none. Of an evaluation item: its cluster
    category: str = ""
    content_hash: str = ""  # hexadecimal SHA-256 of the raw text
    outcome: str = "kept"  # kept | edited | dropped
    rule: str = ""
    evidence: str = ""
    duplicate_of: "Row | None" = None
    split: str = ""
    words: int = 0  # of the cleaned text
    answer_words: int = 0  # of them in the answers of a conversation
    characters: int = 0
    digest: bytes = b""  # of the cleaned text up to case, Unicode form and spacing
    leaks: tuple[Leak, ...] = ()
    texts: tuple[
        int, ...
    ] = ()  # places in the WordStore: the whole text, then its parts where there are several

    def __reduce__(
        self,
    ) -> tuple[type["Row"], tuple[Any, ...]]:  # a third of the time to send it to another process
        return Row, tuple(getattr(self, name) for name in self.__slots__)

    def edit(self, rule: str, evidence: str) -> None:
        """Record that the kept text differs from the raw one; the first rule is named, the evidence of all is kept."""
        self.outcome, self.rule = "edited", self.rule or rule
        self.evidence = "; ".join(filter(None, (self.evidence, evidence)))

    def drop(self, rule: str, evidence: str, duplicate_of: "Row | None" = None) -> None:
        """Take the row out, in favour of `duplicate_of` where it is a duplicate."""
        self.outcome, self.rule, self.evidence, self.duplicate_of = (
            "dropped",
            rule,
            evidence,
            duplicate_of,
        )
        self.split = ""


def alive(rows: Iterable[Row], *roles: str) -> list[Row]:
    """The rows not dropped so far, of the given roles or of all."""
    return [row for row in rows if row.outcome != "dropped" and (not roles or row.role in roles)]


def count_rows(rows: Sequence[Row], stage: str) -> list[dict[str, Any]]:
    """Points of the funnel: how many rows of each role there are after `stage`."""
    counts = Counter(row.role for row in rows)
    return [{"stage": stage, "role": role, "documents": counts[role]} for role in ROLES]


def bad_rows(records: Iterable[dict[str, Any]]) -> list[Row]:
    """A dropped row for each of records.BAD_RECORD."""
    rows = []
    for record in records:
        rows.append(Row(record["role"], record["source"], record["location"], record["id"]))
        rows[-1].drop("bad_record", record["problem"])
    return rows


def require_sound(rows: Sequence[Row], max_bad_records: float) -> None:
    """Raise UserError where the corpus is empty, an id stands twice, or too many records could not be read."""
    if not any(row.role == "corpus" for row in rows):
        raise UserError(
            "data/raw/corpus.parquet: no documents; name your text under fetch.sources.corpus in params.yaml"
        )
    for role in ROLES:
        mine = [row for row in rows if row.role == role]
        bad = [row.evidence for row in mine if row.rule == "bad_record"]
        if len(bad) > max_bad_records * len(mine):
            told = "".join(f"\n- {problem}" for problem in bad[:3])
            allowed = f"curate.max_bad_records allows the share {max_bad_records:g}"
            raise UserError(
                f"{role}: {len(bad)} of {len(mine)} records cannot be read, and {allowed}:{told}"
            )
    seen: dict[str, Row] = {}
    for row in rows:
        if (other := seen.setdefault(row.id, row)) is not row:
            places = f"{other.source} {other.location} and {row.source} {row.location}"
            raise UserError(
                f"data/raw/{row.role}.parquet: id {row.id!r} stands in two rows, of {places}; ids must be unique"
            )


def require_any_left(rows: Sequence[Row]) -> None:
    """Raise UserError for a role that had rows and has none left, naming the rule that removed most."""
    for role in ("corpus", "instructions", "evaluation"):
        mine = [row for row in rows if row.role == role]
        if mine and all(row.outcome == "dropped" for row in mine):
            (rule, count), *_ = Counter(row.rule for row in mine).most_common()
            example = next(row for row in mine if row.rule == rule)
            raise UserError(
                f"data/raw/{role}.parquet: nothing is left of {len(mine)} rows; the rule `{rule}` removed most, "
                f"{count}, for example {example.source} {example.location}: {example.evidence}"
            )


def decision_records(rows: Iterable[Row]) -> Iterator[dict[str, Any]]:
    """Rows of records.DECISION; `duplicate_of` names the row that was kept at the end of a chain of duplicates."""
    for row in rows:
        record = {column: getattr(row, column) for column in DECISION.names}
        yield record | {"duplicate_of": _kept_instead(row)}


def count_decisions(rows: Sequence[Row]) -> dict[str, Any]:
    """Rows by outcome, and reasons for edits and drops, for each role."""
    counts: dict[str, Any] = {}
    for role in ROLES:
        mine = [row for row in rows if row.role == role]
        outcomes = Counter(row.outcome for row in mine)
        counts[role] = {
            "raw": len(mine),
            **{outcome: outcomes[outcome] for outcome in ("kept", "edited", "dropped")},
            "edited_by": dict(Counter(row.rule for row in mine if row.outcome == "edited")),
            "dropped_by": dict(Counter(row.rule for row in mine if row.outcome == "dropped")),
        }
    return counts


def _kept_instead(row: Row) -> str:
    if row.duplicate_of is None:
        return ""
    while row.duplicate_of is not None:
        row = row.duplicate_of
    return row.id
