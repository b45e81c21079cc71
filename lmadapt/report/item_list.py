"""The items of the report: what became of each, in the form that report.js reads."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

from jinja2.utils import htmlsafe_json_dumps
from markupsafe import Markup

MAX_ITEMS = 20_000  # in the page, lost and gained ones first; predictions.parquet holds all
MAX_ITEM_BYTES = 9_000_000  # of all items: the page stays under 10 MB and opens at once
MAX_TEXT_CHARACTERS = (2_000, 600, 200)  # of a text: the first with which all items fit is used
STATUS = ("lost", "gained", "kept", "wrong in both")  # in the order of report.js
SEVERITIES = ("critical", "major", "minor")
LISTED_GROUPS = ("domain", "general", "behaviour")

Item = Mapping[str, Any]


@dataclass(frozen=True)
class ItemList:
    """Items for the page, and how many there are in all."""

    data: Markup  # JSON that is inert inside a script element
    shown: int
    total: int
    counts: list[int]  # by STATUS, of all items


def list_items(items: Sequence[Item], models: Sequence[str]) -> ItemList:
    """The domain, general and behaviour items, lost and gained ones first.

    `models` are the names of the two whose answers stand in `before` and `after`.
    """
    listed = [item for item in items if item["group"] in LISTED_GROUPS]
    listed.sort(key=lambda item: (_status(item), item["group"], item["category"], item["id"]))
    rows = _fitting_rows(listed)
    statuses = [_status(item) for item in listed]
    return ItemList(
        data=Markup(f'{{"models":{_json(models)},"items":[{",".join(rows)}]}}'),
        shown=len(rows),
        total=len(listed),
        counts=[statuses.count(number) for number in range(len(STATUS))],
    )


def list_checks(items: Sequence[Item]) -> list[dict[str, Any]]:
    """The behaviour checks with their `status`: lost ones first, then by severity."""
    ordered = sorted(items, key=lambda item: (_status(item), item["category"], item["id"]))
    checks = [
        {**item, "status": STATUS[_status(item)]}
        for item in ordered
        if item["group"] == "behaviour"
    ]
    return sorted(checks, key=_check_order)


def _check_order(check: Item) -> tuple[int, int]:
    return STATUS.index(check["status"]), SEVERITIES.index(check["severity"])


def _status(item: Item) -> int:
    """Index into STATUS."""
    before, after = item["before"]["score"], item["after"]["score"]
    if after < before:
        return 0
    if after > before:
        return 1
    return 2 if after > 0 else 3


def _fitting_rows(items: Sequence[Item]) -> list[str]:
    """As many items as fit, as JSON; texts are cut shorter before an item is left out."""
    rows: list[str] = []
    for limit in MAX_TEXT_CHARACTERS:
        texts = [_json(_row(item, limit)) for item in items[:MAX_ITEMS]]
        sizes = accumulate(len(text.encode()) for text in texts)
        rows = [text for text, size in zip(texts, sizes, strict=True) if size <= MAX_ITEM_BYTES]
        if len(rows) == len(texts):
            break
    return rows


def _row(item: Item, limit: int) -> list[Any]:
    """An item as report.js reads it; an answer that is one of the choices becomes its index."""
    before, after = item["before"], item["after"]
    choices = [_cut(choice, limit) for choice in item["choices"]]
    return [
        item["id"],
        f"{item['group']}: {item['category']}",
        _status(item),
        _cut(item["prompt"], limit),
        choices,
        item["answer"],
        item["check"],
        _answer(before["response"], choices, limit),
        _answer(after["response"], choices, limit),
        float(before["score"]),
        float(after["score"]),
        list(item["notes"]),
    ]


def _answer(response: str, choices: Sequence[str], limit: int) -> str | int:
    text = _cut(response, limit)
    return choices.index(text) if text in choices else text


def _cut(text: str, limit: int) -> str:
    return text if len(text) <= limit else text[:limit] + " …"


def _json(value: Any) -> str:
    text = htmlsafe_json_dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return str(text)
