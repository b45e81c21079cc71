"""What the curated tables must be: Great Expectations suites over the measured tables.

Each expectation has a name ("corpus.leak"), a sentence that says what is allowed and which
setting allows it, a share of rows that may fail, and a severity: `error` stops the pipeline,
`warning` is reported. Expectations about single rows tolerate `max_failing_fraction` of them;
identity, leaks, personal data and held-out text tolerate none. A project's own file changes
both by name, and adds expectations (lmadapt.validation.own_expectations).
"""

from collections.abc import Mapping
from typing import Any

import pandas as pd
from great_expectations import expectations as gxe
from pydantic import Field

from lmadapt.core.sections import Section
from lmadapt.validation.table_totals import TRAINING_TABLES

MIN_ITEMS = 30  # of a category: lmadapt.verdict.decision needs as many
MIN_CLUSTERS = 2  # entities of a category: the same
DOCUMENTS = ("corpus", "replay_text", "heldout_text")
CONVERSATIONS = ("instructions", "replay_instructions")
DRIFT = {
    "rows": "number of rows",
    "tokens_per_row": "length in tokens",
    "vocabulary": "number of different words",
}
Suites = dict[str, list[Any]]  # expectations by the name of the frame they look at


class Limits(Section):
    """The least that the curated data must offer, and the most that may be wrong with it."""

    min_corpus_documents: int = Field(ge=1)
    min_instructions: int = Field(ge=0)
    min_domain_items: int = Field(ge=0)
    min_general_items: int = Field(ge=0)
    min_items_per_category: int = Field(ge=0)  # of general categories
    min_general_categories: int = Field(ge=0)
    min_supervised_fraction: float = Field(ge=0, le=1)  # of the tokens of instructions
    max_document_tokens: int = Field(ge=1)
    max_failing_fraction: float = Field(ge=0, lt=1)  # of the rows of a table
    min_replay_text_fraction: float = Field(ge=0, lt=1)  # of the tokens of corpus and replay
    min_replay_instructions_fraction: float = Field(ge=0, lt=1)  # of the supervised tokens
    max_drift: float = Field(gt=0)  # share by which a size may change


def make_suites(limits: Limits) -> Suites:
    """All expectations, by frame; each carries `meta["name"]`, unique over all suites."""
    rows = {"mostly": 1 - limits.max_failing_fraction}
    suites: Suites = {
        "tables": [
            _none("tables", "schema_problem", "a table has the columns of lmadapt/core/tables.py")
        ]
    }
    tokens = f"a row has at most {limits.max_document_tokens} tokens"
    for frame in (*DOCUMENTS, *CONVERSATIONS, "items"):
        suites[frame] = [
            _between(frame, "id_uses", "an id stands once in all tables", 1, 1),
            _between(frame, "tokens", tokens, None, limits.max_document_tokens, **rows),
        ]
    for frame in DOCUMENTS:
        suites[frame].append(_between(frame, "characters", "a text is not empty", 1, None, **rows))
    for frame in CONVERSATIONS:
        suites[frame] += _conversation_expectations(frame, rows)
    for frame in TRAINING_TABLES:
        suites[frame] += _training_expectations(frame)
    suites["corpus"].append(
        _none("corpus", "language_problem", "the language is one of validate.languages", **rows)
    )
    suites["heldout_text"].append(
        _set("heldout_text", "group", "the group is known", ["domain", "general"])
    )
    suites["items"] += _item_expectations()
    suites["drift"] = [_drift(column, size, limits.max_drift) for column, size in DRIFT.items()]
    suites["totals"] = _needed_totals(limits) + _advised_totals(limits)
    suites["categories"] = _category_expectations(limits)
    return suites


def drift_frame(sizes: pd.DataFrame, baseline: Mapping[str, Any]) -> pd.DataFrame:
    """How much each training table changed, as shares, against an earlier metrics/validate.json.

    A baseline of {} means no change.
    """
    before = baseline.get("sizes", {})
    frame = sizes.copy()
    for column in DRIFT:
        now = zip(sizes["id"], sizes[column], strict=True)
        earlier = [before.get(table, {}).get(column) or size for table, size in now]
        frame[column] = (sizes[column] - earlier) / pd.Series(earlier).clip(lower=1e-9)
    return frame


def exam_expectations() -> list[Any]:
    """What the exam must be able to decide, for the frame of `exam_frame`."""
    possible = (
        "some result of the exam is SHIP "
        "(in expectations.yaml, `exam.undecidable: {severity: warning}` allows that none is)"
    )
    passable = "a model that changes no answer is shown to be within the margin"
    likely = "a model that lost nothing gets SHIP at least every second time"
    return [
        _none("exam", "undecidable", possible),
        _none("exam", "impassable", passable, severity="warning"),
        _none("exam", "unlikely", likely, severity="warning"),
    ]


def exam_frame(
    impassable: Mapping[str, str], *, undecidable: str = "", unlikely: str = ""
) -> pd.DataFrame:
    """A row for the verdict, and one for each question in `impassable`; "" where all is well.

    `lmadapt.verdict.exam_power` says what is wrong.
    """
    place = {"source": "items", "location": ""}
    verdict = {"id": "verdict", "undecidable": undecidable, "unlikely": unlikely, "impassable": ""}
    questions = [
        {"id": name, "undecidable": "", "unlikely": "", "impassable": problem}
        for name, problem in impassable.items()
    ]
    return pd.DataFrame([place | row for row in (verdict, *questions)])


def _conversation_expectations(frame: str, rows: Mapping[str, float]) -> list[Any]:
    order = "roles are [system,] user, assistant, ... and end with assistant"
    empty = "no message, and above all no completion, is empty"
    encodable = "the tokenizer can encode the conversation for training"
    return [
        _none(frame, "role_order_problem", order, **rows),
        _none(frame, "empty_message_problem", empty, **rows),
        _none(frame, "encoding_problem", encodable, **rows),
    ]


def _training_expectations(frame: str) -> list[Any]:
    overlap = "no training text is a near-duplicate of a held-out one"
    masked = "no personal data or secret is left (validate.personal_data)"
    return [
        _none(frame, "heldout_overlap", overlap),
        _none(frame, "near_duplicate_of", "no near-duplicate is left"),
        _none(frame, "leak", "no training text gives away an evaluation item"),
        _none(frame, "personal_data", masked),
    ]


def _item_expectations() -> list[Any]:
    named = _named("items", "question", "a question is asked once")
    return [
        _none("items", "item_problem", "an item can be asked and scored"),
        gxe.ExpectColumnValuesToBeUnique(column="question", **named),
    ]


def _drift(column: str, size: str, most: float) -> Any:
    sentence = f"the {size} changed by at most the share {most} (validate.max_drift)"
    return _between("drift", column, sentence, -most, most, severity="warning")


def _needed_totals(limits: Limits) -> list[Any]:
    """What the whole of the data must reach; a verdict needs one item of each group at least."""
    settings = {
        "corpus_rows": ("min_corpus_documents", limits.min_corpus_documents),
        "instructions_rows": ("min_instructions", limits.min_instructions),
        "domain_items": ("min_domain_items", limits.min_domain_items),
        "general_items": ("min_general_items", limits.min_general_items),
        "general_categories": ("min_general_categories", limits.min_general_categories),
        "supervised_fraction": ("min_supervised_fraction", limits.min_supervised_fraction),
    }
    totals = []
    for column, (setting, wanted) in settings.items():
        for_verdict = column in ("domain_items", "general_items")
        least = max(wanted, int(for_verdict))
        reason = f"validate.{setting}{'; 1 for a verdict' if for_verdict else ''}"
        sentence = f"{column.replace('_', ' ')} reach {least} ({reason})"
        totals.append(_between("totals", column, sentence, least, None))
    return totals


def _advised_totals(limits: Limits) -> list[Any]:
    """What the whole of the data should reach: less is a warning."""
    shares = {
        "replay_text_fraction": (limits.min_replay_text_fraction, "pretrain"),
        "replay_instructions_fraction": (limits.min_replay_instructions_fraction, "sft"),
    }
    totals = []
    for column, (least, stage) in shares.items():
        sentence = (
            f"replay can be the share {least} of the tokens "
            f"(validate.min_{column}; {stage}.replay_fraction asks for it)"
        )
        totals.append(_between("totals", column, sentence, least, None, severity="warning"))
    for kind in ("domain", "general"):
        sentence = f"there is held-out {kind} text for bits per byte"
        column = f"heldout_{kind}_documents"
        totals.append(_between("totals", column, sentence, 1, None, severity="warning"))
    return totals


def _category_expectations(limits: Limits) -> list[Any]:
    least = limits.min_items_per_category
    enough = f"a general category has at least {least} items (validate.min_items_per_category)"
    items = f"a category has at least {MIN_ITEMS} items for a verdict"
    clusters = f"a category is about at least {MIN_CLUSTERS} entities for a verdict"
    return [
        _between("categories", "general_items", enough, least, None),
        _between("categories", "items", items, MIN_ITEMS, None),
        _between("categories", "clusters", clusters, MIN_CLUSTERS, None),
    ]


def _named(frame: str, column: str, sentence: str, severity: str = "critical") -> dict[str, Any]:
    return {"description": sentence, "severity": severity, "meta": {"name": f"{frame}.{column}"}}


def _none(frame: str, column: str, sentence: str, **options: Any) -> Any:
    """The problem column is "" in every row."""
    return _set(frame, column, sentence, [""], **options)


def _set(frame: str, column: str, sentence: str, values: list[str], **options: Any) -> Any:
    named = _named(frame, column, sentence, options.pop("severity", "critical"))
    return gxe.ExpectColumnValuesToBeInSet(column=column, value_set=values, **named, **options)


def _between(
    frame: str, column: str, sentence: str, least: float | None, most: float | None, **options: Any
) -> Any:
    named = _named(frame, column, sentence, options.pop("severity", "critical"))
    return gxe.ExpectColumnValuesToBeBetween(
        column=column, min_value=least, max_value=most, **named, **options
    )
