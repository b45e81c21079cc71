"""What the curated tables must be, as Great Expectations suites over the frames of lmadapt.derived_columns.

Each expectation has a name ("corpus.leak"), a sentence that says what is allowed and which setting allows it, and a
severity: `critical` stops the pipeline, `warning` is reported. Expectations about single rows tolerate
`max_failing_fraction` of rows (Great Expectations' `mostly`); identity, leaks and held-out text tolerate none.
"""

from collections.abc import Mapping
from typing import Any

from great_expectations import expectations as gxe

from lmadapt.derived_columns import TRAINING

MIN_ITEMS = 30  # of a category: what lmadapt.verdict asks for
Suites = dict[str, list[Any]]  # expectations by the name of the frame they look at


def make_suites(minimums: Mapping[str, float], *, max_document_tokens: int, max_failing_fraction: float) -> Suites:
    """All expectations, by frame; each carries `meta["name"]`, unique over all suites.

    `minimums` holds the settings of section `validate` that begin with min_.
    """
    rows = {"mostly": 1 - max_failing_fraction}
    suites: Suites = {"tables": [_none("tables", "schema_problem", "a table has the columns of lmadapt/records.py")]}
    documents, conversations = ("corpus", "replay_text", "heldout_text"), ("instructions", "replay_instructions")
    for frame in (*documents, *conversations, "items"):
        suites[frame] = [
            _between(frame, "id_uses", "an id stands once in all tables", 1, 1),
            _between(
                frame, "tokens", f"a row has at most {max_document_tokens} tokens", None, max_document_tokens, **rows
            ),
        ]
    for frame in documents:
        suites[frame].append(_between(frame, "characters", "a text is not empty", 1, None, **rows))
    for frame in conversations:
        suites[frame] += [
            _none(
                frame, "role_order_problem", "roles are [system,] user, assistant, ... and end with assistant", **rows
            ),
            _none(frame, "empty_message_problem", "no message, and above all no completion, is empty", **rows),
            _none(frame, "encoding_problem", "the tokenizer can encode the conversation for training", **rows),
        ]
    for frame in TRAINING:
        suites[frame] += [
            _none(frame, "heldout_twin", "no training text equals a held-out one"),
            _none(frame, "near_duplicate_of", "no near-duplicate is left, in training or held-out text"),
            _none(frame, "leak", "no training text gives away an evaluation item"),
        ]
    suites["heldout_text"].append(_set("heldout_text", "group", "the group is known", ["domain", "general"]))
    suites["items"] += [
        _none("items", "item_problem", "an item can be asked and scored"),
        gxe.ExpectColumnValuesToBeUnique(column="question", **_named("items", "question", "a question is asked once")),
    ]
    return suites | _count_suites(minimums)


def _count_suites(minimums: Mapping[str, float]) -> Suites:
    columns = {
        "corpus_rows": "min_corpus_documents",
        "instructions_rows": "min_instructions",
        "domain_items": "min_domain_items",
        "general_items": "min_general_items",
        "general_categories": "min_general_categories",
        "supervised_fraction": "min_supervised_fraction",
    }
    totals = []
    for column, key in columns.items():
        needed = int(column in ("domain_items", "general_items"))
        least = max(minimums[key], needed)
        sentence = f"{column.replace('_', ' ')} reach {least} (validate.{key}{'; 1 for a verdict' if needed else ''})"
        totals.append(_between("totals", column, sentence, least, None))
    advice = {
        "replay_text_rows": "there is general text to replay in pre-training",
        "replay_instructions_rows": "there are general instructions to replay in fine-tuning",
        "heldout_domain_documents": "there is held-out domain text for bits per byte",
        "heldout_general_documents": "there is held-out general text for bits per byte",
    }
    totals += [_between("totals", column, text, 1, None, severity="warning") for column, text in advice.items()]
    least = minimums["min_items_per_category"]
    sentence = f"a general category has at least {least} items (validate.min_items_per_category)"
    categories = [
        _between("categories", "general_items", sentence, least, None),
        _between("categories", "items", f"a category has at least {MIN_ITEMS} items for a verdict", MIN_ITEMS, None),
        _between("categories", "clusters", "a category is about at least 2 entities for a verdict", 2, None),
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


def _between(frame: str, column: str, sentence: str, least: float | None, most: float | None, **options: Any) -> Any:
    severity = options.pop("severity", "critical")
    return gxe.ExpectColumnValuesToBeBetween(
        column=column, min_value=least, max_value=most, **_named(frame, column, sentence, severity), **options
    )
