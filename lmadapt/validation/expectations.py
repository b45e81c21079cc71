"""What the curated tables must be, as Great Expectations suites over the frames of lmadapt.validation.measured_tables.

Each expectation has a name ("corpus.leak"), a sentence that says what is allowed and which setting allows it, a share
of rows that may fail, and a severity: `error` stops the pipeline, `warning` is reported. Expectations about single rows
tolerate `max_failing_fraction` of them; identity, leaks, personal data and held-out text tolerate none. A project's own
file changes both by name, and adds expectations.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import pandas as pd
from great_expectations import expectations as gxe
from great_expectations.expectations.expectation_configuration import ExpectationConfiguration
from pydantic import Field

from lmadapt.core.errors import UserError
from lmadapt.core.sections import Section, load_section, read_params
from lmadapt.validation.measured_tables import TRAINING

MIN_ITEMS = 30  # of a category: what lmadapt.verdict.decision asks for
DRIFT = {
    "rows": "number of rows",
    "tokens_per_row": "length in tokens",
    "vocabulary": "number of different words",
}
Suites = dict[str, list[Any]]  # expectations by the name of the frame they look at
SEVERITIES = {"error": "critical", "warning": "warning"}  # ours, and Great Expectations'


class Own(Section):
    """An entry of a project's own file: changes of an expectation of ours, or one of Great Expectations' by `type`."""

    type: str | None = None
    arguments: dict[str, Any] = Field(default_factory=dict)
    description: str = ""
    max_failing_fraction: float | None = Field(default=None, ge=0, lt=1)
    severity: Literal["error", "warning"] | None = None


def make_suites(
    minimums: Mapping[str, float],
    *,
    max_document_tokens: int,
    max_failing_fraction: float,
    max_drift: float,
) -> Suites:
    """All expectations, by frame; each carries `meta["name"]`, unique over all suites.

    `minimums` holds the settings of section `validate` that begin with min_.
    """
    rows = {"mostly": 1 - max_failing_fraction}
    suites: Suites = {
        "tables": [
            _none("tables", "schema_problem", "a table has the columns of lmadapt/core/tables.py")
        ]
    }
    documents, conversations = (
        ("corpus", "replay_text", "heldout_text"),
        ("instructions", "replay_instructions"),
    )
    tokens = f"a row has at most {max_document_tokens} tokens"
    for frame in (*documents, *conversations, "items"):
        suites[frame] = [
            _between(frame, "id_uses", "an id stands once in all tables", 1, 1),
            _between(frame, "tokens", tokens, None, max_document_tokens, **rows),
        ]
    for frame in documents:
        suites[frame].append(_between(frame, "characters", "a text is not empty", 1, None, **rows))
    for frame in conversations:
        suites[frame] += [
            _none(
                frame,
                "role_order_problem",
                "roles are [system,] user, assistant, ... and end with assistant",
                **rows,
            ),
            _none(
                frame,
                "empty_message_problem",
                "no message, and above all no completion, is empty",
                **rows,
            ),
            _none(
                frame,
                "encoding_problem",
                "the tokenizer can encode the conversation for training",
                **rows,
            ),
        ]
    for frame in TRAINING:
        suites[frame] += [
            _none(
                frame, "heldout_overlap", "no training text is a near-duplicate of a held-out one"
            ),
            _none(frame, "near_duplicate_of", "no near-duplicate is left"),
            _none(frame, "leak", "no training text gives away an evaluation item"),
            _none(
                frame,
                "personal_data",
                "no personal data or secret is left (validate.personal_data)",
            ),
        ]
    suites["corpus"].append(
        _none("corpus", "language_problem", "the language is one of validate.languages", **rows)
    )
    suites["heldout_text"].append(
        _set("heldout_text", "group", "the group is known", ["domain", "general"])
    )
    suites["items"] += [
        _none("items", "item_problem", "an item can be asked and scored"),
        gxe.ExpectColumnValuesToBeUnique(
            column="question", **_named("items", "question", "a question is asked once")
        ),
    ]
    suites["drift"] = [
        _between("drift", column, f"the {told} changed by at most the share {max_drift} (validate.max_drift)",
                 -max_drift, max_drift, severity="warning")
        for column, told in DRIFT.items()
    ]  # fmt: skip
    return suites | _count_suites(minimums)


def drift_frame(sizes: pd.DataFrame, baseline: Mapping[str, Any]) -> pd.DataFrame:
    """How much each training table changed against an earlier metrics/validate.json ({}: no change), as shares."""
    before = baseline.get("sizes", {})
    frame = sizes.copy()
    for column in DRIFT:
        earlier = [
            before.get(table, {}).get(column) or now
            for table, now in zip(sizes["id"], sizes[column], strict=True)
        ]
        frame[column] = (sizes[column] - earlier) / pd.Series(earlier).clip(lower=1e-9)
    return frame


def add_own(suites: Suites, file: Path) -> None:
    """Change and add what the project's own file says, in place: `FRAME.NAME: {severity: …, type: …, …}`.

    Raises UserError naming file, line and entry where it is wrong.
    """
    ours = {
        expectation.meta["name"]: expectation for suite in suites.values() for expectation in suite
    }
    for name in read_params(file):
        own, frame = load_section(Own, name, file), name.partition(".")[0]
        if own.type is None and name not in ours:
            raise UserError(
                f"{file}: {name}: no such expectation, and no type to make one; ours: {', '.join(ours)}"
            )
        if frame not in suites:
            raise UserError(f"{file}: {name}: begins with no table; allowed: {', '.join(suites)}")
        expectation = ours[name] if own.type is None else _make(own, name, file)
        if own.max_failing_fraction is not None:
            expectation.mostly = 1 - own.max_failing_fraction
        if own.severity:
            expectation.severity = SEVERITIES[own.severity]
        if own.type:
            suites[frame].append(expectation)


def _make(own: Own, name: str, file: Path) -> Any:
    try:
        configuration = ExpectationConfiguration(
            type=own.type or "",
            kwargs=own.arguments,
            meta={"name": name},
            description=own.description or name,
        )
        return configuration.to_domain_obj()
    except Exception as error:  # whatever Great Expectations raises about a type or its arguments
        raise UserError(f"{file}: {name}: {type(error).__name__}: {error}") from None


def _count_suites(minimums: Mapping[str, float]) -> Suites:
    columns = {
        "corpus_rows": "min_corpus_documents", "instructions_rows": "min_instructions",
        **{key: f"min_{key}" for key in ("domain_items", "general_items", "general_categories", "supervised_fraction")},
    }  # fmt: skip
    totals = []
    for column, key in columns.items():
        needed = int(column in ("domain_items", "general_items"))
        least = max(minimums[key], needed)
        sentence = f"{column.replace('_', ' ')} reach {least} (validate.{key}{'; 1 for a verdict' if needed else ''})"
        totals.append(_between("totals", column, sentence, least, None))
    for column, key in (
        ("replay_text_fraction", "pretrain"),
        ("replay_instructions_fraction", "sft"),
    ):
        least = minimums[f"min_{column}"]
        sentence = f"replay can be the share {least} of the tokens (validate.min_{column}; {key}.replay_fraction asks for it)"
        totals.append(_between("totals", column, sentence, least, None, severity="warning"))
    advice = {
        "heldout_domain_documents": "there is held-out domain text for bits per byte",
        "heldout_general_documents": "there is held-out general text for bits per byte",
    }
    totals += [
        _between("totals", column, text, 1, None, severity="warning")
        for column, text in advice.items()
    ]
    least = minimums["min_items_per_category"]
    sentence = f"a general category has at least {least} items (validate.min_items_per_category)"
    categories = [
        _between("categories", "general_items", sentence, least, None),
        _between(
            "categories",
            "items",
            f"a category has at least {MIN_ITEMS} items for a verdict",
            MIN_ITEMS,
            None,
        ),
        _between(
            "categories",
            "clusters",
            "a category is about at least 2 entities for a verdict",
            2,
            None,
        ),
    ]
    return {"totals": totals, "categories": categories}


def _named(frame: str, column: str, sentence: str, severity: str = "critical") -> dict[str, Any]:
    return {"description": sentence, "severity": severity, "meta": {"name": f"{frame}.{column}"}}


def _none(frame: str, column: str, sentence: str, **options: Any) -> Any:
    return _set(frame, column, sentence, [""], **options)


def _set(frame: str, column: str, sentence: str, values: list[str], **options: Any) -> Any:
    return gxe.ExpectColumnValuesToBeInSet(
        column=column, value_set=values, **_named(frame, column, sentence), **options
    )


def _between(
    frame: str, column: str, sentence: str, least: float | None, most: float | None, **options: Any
) -> Any:
    severity = options.pop("severity", "critical")
    return gxe.ExpectColumnValuesToBeBetween(
        column=column,
        min_value=least,
        max_value=most,
        **_named(frame, column, sentence, severity),
        **options,
    )
