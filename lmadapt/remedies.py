"""Placeholder until merged."""

from typing import Any


def remedies(figures: dict[str, Any]) -> list[str]:
    """None yet."""
    return []
