"""The demo sets: what can be had from a package registry alone.

Each module offers one function for each role it can fill, named like the role: folders of unzipped packages in,
rows as in lmadapt.sources out.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from lmadapt.demo import arithmetic, behaviour, conversations, python_documentation, weaknesses, world_facts
from lmadapt.errors import UserError

SETS = {
    module.__name__.rpartition(".")[2]: module
    for module in (arithmetic, behaviour, conversations, python_documentation, weaknesses, world_facts)
}
ROLES = ("corpus", "general_text", "instructions", "general_instructions", "evaluation")


def demo_rows(name: str, role: str, packages: Mapping[str, Path]) -> Iterator[dict[str, Any]]:
    """Rows of demo set `name` for `role`; `packages` maps package names to their unzipped folders.

    Raises UserError when there is no such set, it has nothing for the role, or its package is not in params.yaml.
    """
    if name not in SETS:
        raise UserError(f"fetch.sources.{role}: no demo set {name!r}; allowed: {', '.join(SETS)}")
    offered = [known for known in ROLES if hasattr(SETS[name], known)]
    if role not in offered:
        raise UserError(f"fetch.sources.{role}: demo set {name!r} has no {role}; it offers: {', '.join(offered)}")
    try:
        rows = list(getattr(SETS[name], role)(packages))
    except KeyError as error:
        raise UserError(f"fetch.packages: package {error.args[0]} is missing, which demo set {name!r} reads") from None
    for row in rows:
        location = f"{role}/{row.pop('location')}"
        yield {"id": f"{name}/{location}", **row, "source": name, "location": location}
