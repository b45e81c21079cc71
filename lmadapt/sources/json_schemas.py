"""References within a JSON schema, which must not lead out of it."""

from collections.abc import Iterator
from typing import Any

VALUES = ("const", "enum", "default", "examples")  # keywords that hold values, not schemas


def require_resolvable(schema: dict[str, Any]) -> None:
    """Raise ValueError naming a $ref that leads to nothing in the schema, or to another address.

    jsonschema would follow it only while it looks at an answer, and over the network.
    """
    from jsonschema_specifications import REGISTRY
    from referencing.exceptions import Unresolvable
    from referencing.jsonschema import DRAFT202012

    resource = DRAFT202012.create_resource(schema)
    resolver = REGISTRY.with_resource("", resource).crawl().resolver()
    for reference in _references(schema):
        try:
            resolver.lookup(reference)
        except Unresolvable:
            raise ValueError(f"the $ref {reference!r} leads to nothing in the schema") from None


def _references(part: Any) -> Iterator[str]:
    if isinstance(part, list):
        for own in part:
            yield from _references(own)
    elif isinstance(part, dict) and not part.get("$id"):  # an $id would be another base of them
        if isinstance(part.get("$ref"), str):
            yield part["$ref"]
        for key, own in part.items():
            if key not in VALUES:
                yield from _references(own)
