"""General prose: the parts of Python's language reference that `help()` shows."""

from collections.abc import Iterator, Mapping
from typing import Any


def general_text(packages: Mapping[str, str]) -> Iterator[dict[str, Any]]:
    """One document for each topic of `help()`."""
    from pydoc_data.topics import topics

    for topic, text in sorted(topics.items()):
        yield {"text": text.strip(), "entity": topic, "location": topic}
