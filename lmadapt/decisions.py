"""One decision for every raw row: what happened to it, by which rule, on what evidence."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from lmadapt.errors import UserError

ROLES = ("corpus", "general_text", "instructions", "general_instructions", "evaluation")
DOCUMENT_ROLES, INSTRUCTION_ROLES = ROLES[:2], ROLES[2:4]


@dataclass
class Row:
    """A raw row on its way through curation; `record` holds its columns, cleaned in place."""

    role: str
    record: dict[str, Any]
    outcome: str = "kept"  # kept | edited | dropped
    rule: str = ""
    evidence: str = ""
    duplicate_of: "Row | None" = None
    split: str = ""
    words: int = 0  # of `text`, counted once it is clean

    @property
    def id(self) -> str:
        """The row's id, unique over all tables."""
        return str(self.record["id"])

    @property
    def entity(self) -> str:
        """What the row is about; "" = none. Of an evaluation item: its cluster."""
        return str(self.record["cluster" if self.role == "evaluation" else "entity"] or "")

    @property
    def parts(self) -> list[str]:
        """The texts a reader would see apart: the document; each message but the system's; the item's prompt."""
        if self.role in INSTRUCTION_ROLES:
            messages = self.record["messages"] or ()
            return [message["content"] or "" for message in messages if message["role"] != "system"]
        return [self.record["prompt" if self.role == "evaluation" else "text"] or ""]

    @property
    def text(self) -> str:
        """What is measured and compared: the document, or question and answer together."""
        return "\n".join(self.parts)

    def edit(self, rule: str, evidence: str) -> None:
        """Record that the kept text differs from the raw one."""
        self.outcome, self.rule, self.evidence = "edited", rule, evidence

    def drop(self, rule: str, evidence: str, duplicate_of: "Row | None" = None) -> None:
        """Take the row out, in favour of `duplicate_of` where it is a duplicate."""
        self.outcome, self.rule, self.evidence, self.duplicate_of = "dropped", rule, evidence, duplicate_of
        self.split = ""


def alive(rows: Iterable[Row], *roles: str) -> list[Row]:
    """The rows not dropped so far, of the given roles or of all."""
    return [row for row in rows if row.outcome != "dropped" and (not roles or row.role in roles)]


def count_alive(rows: Sequence[Row], stage: str) -> list[dict[str, Any]]:
    """Points of the funnel: how many rows of each role remain after `stage`."""
    counts = Counter(row.role for row in alive(rows))
    return [{"stage": stage, "role": role, "documents": counts[role]} for role in ROLES]


def require_any_left(rows: Sequence[Row]) -> None:
    """Raise UserError for a role that had rows and has none left, naming the rule that removed most."""
    for role in ROLES:
        mine = [row for row in rows if row.role == role]
        if mine and not alive(mine) and role in ("corpus", "instructions", "evaluation"):
            (rule, count), *_ = Counter(row.rule for row in mine).most_common()
            example = next(row for row in mine if row.rule == rule)
            raise UserError(
                f"data/raw/{role}.parquet: nothing is left of {len(mine)} rows; the rule `{rule}` removed most, "
                f"{count}, for example {example.record['source']} {example.record['location']}: {example.evidence}"
            )


def decision_records(rows: Iterable[Row]) -> list[dict[str, Any]]:
    """Rows of records.DECISION; `duplicate_of` names the row that was kept at the end of a chain of duplicates."""
    return [
        {
            **{column: row.record[column] for column in ("id", "source", "location")},
            **{"role": row.role, "outcome": row.outcome, "rule": row.rule, "evidence": row.evidence},
            "duplicate_of": _kept_instead(row),
            "split": row.split,
        }
        for row in rows
    ]


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
