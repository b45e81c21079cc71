"""Margins and level at which versions were judged, and which of two are stricter."""

import math
from collections.abc import Mapping
from typing import Any

Margins = dict[str, float | None]  # by key of section evaluate; None: this margin is switched off


def margins_in(settings: Mapping[str, Any]) -> Margins:
    """What section evaluate of params.yaml says of the acceptable: its level and its margins."""
    return {key: settings[key] for key in sorted(settings) if _is_margin(key)}


def stricter(one: Margins, other: Margins) -> Margins:
    """Of each margin the stricter one; a margin that only one of them has is that one."""
    return {
        key: min(one.get(key), other.get(key), key=lambda value: _allowance(key, value))
        for key in sorted(one | other)
    }


def looser(new: Margins, old: Margins) -> list[str]:
    """What `new` accepts beyond `old`, as "margin 0.05 instead of 0.02"."""
    return [
        f"{key} {_shown(new.get(key))} instead of {_shown(old[key])}"
        for key in old
        if _allowance(key, new.get(key)) > _allowance(key, old[key])
    ]


def differing(new: Margins, old: Margins) -> list[str]:
    """What differs between them, as "margin 0.05 instead of 0.02"."""
    return [
        f"{key} {_shown(new.get(key))} instead of {_shown(old.get(key))}"
        for key in sorted(new | old)
        if new.get(key) != old.get(key)
    ]


def _is_margin(key: str) -> bool:
    return key == "significance" or key.endswith(("margin", "_gain"))


def _allowance(key: str, value: float | None) -> float:
    """How much a margin lets pass: a larger loss or level is looser, a larger gain is stricter."""
    if key.endswith("_gain"):
        return -(value or 0.0)
    return math.inf if value is None else value


def _shown(value: float | None) -> str:
    return "none" if value is None else f"{value:g}"
