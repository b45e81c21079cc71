"""Which stages several params sets share: a tree of parts, each of which runs once and then forks.

Two sets share a stage when they agree on all keys that it or an earlier stage reads. Of two
branches of the graph that do not depend on each other, the later one in dvc.yaml is shared only by
sets that also agree on the earlier one.
"""

import json
from dataclasses import dataclass
from itertools import chain, product
from pathlib import PurePosixPath
from typing import Any

CANDIDATES = "evaluate.candidates"
Params = dict[str, Any]  # SECTION.KEY: value, as the flow `pipeline` takes them
Graph = dict[str, dict[str, Any]]  # the stages of dvc.yaml


@dataclass
class Part:
    """Stages that run once for several sets, with changed params, and the parts that follow.

    Sets are numbered from 1. A part without forks is the last one of its only set.
    """

    sets: list[int]
    stages: list[str]
    params: Params
    forks: list["Part"]


def plan(sets: list[Params], settings: dict[str, Any], graph: Graph, stages: list[str]) -> Part:
    """The tree for the chosen stages.

    Raises ValueError for a key that params.yaml does not have, for two equal sets, and for none.
    """
    base: Params = {}
    for number, changed in enumerate(sets, 1):
        base |= {key: value_in(settings, key, number) for key in changed}
    values = {number: base | changed for number, changed in enumerate(sets, 1)}
    numbers = list(values)
    for number in numbers:
        same = next(other for other in numbers if values[other] == values[number])
        if same != number:
            raise ValueError(f"sets: {same} and {number} lead to the same params")
    if not sets:
        raise ValueError(
            "sets: the list is empty; it takes mappings such as {'sft.learning_rate': 0.0001}"
        )
    planner = _Planner(sets, base, values, keys_read(graph, sorted(base)))
    return planner.part(numbers, stages)


def with_shared_level(
    sets: list[Params], settings: dict[str, Any], stages: list[str]
) -> list[Params]:
    """The sets, each told in `evaluate.candidates` how many models one exam judges in the sweep.

    Unchanged where no stage `evaluate` runs or params.yaml has no such key. Raises ValueError for a
    set that names the key itself.
    """
    if "evaluate" not in stages or CANDIDATES.partition(".")[2] not in settings.get("evaluate", {}):
        return sets
    for number, changed in enumerate(sets, 1):
        if CANDIDATES in changed:
            raise ValueError(
                f"sets: set {number} has {CANDIDATES}; a sweep sets it to the number of its sets"
            )
    return [changed | {CANDIDATES: len(sets)} for changed in sets]


def value_in(settings: dict[str, Any], key: str, number: int) -> Any:
    """The value of SECTION.KEY in params.yaml.

    Raises ValueError, with the number of the set, where there is no such key.
    """
    section, _, name = key.partition(".")
    found = settings.get(section)
    if not isinstance(found, dict) or name not in found:
        raise ValueError(f"sets: {key} of set {number} is not in params.yaml")
    return found[name]


def keys_read(graph: Graph, keys: list[str]) -> dict[str, list[str]]:
    """For each stage, the keys that it or a stage before it in dvc.yaml reads."""
    found: dict[str, set[str]] = {}
    for name, stage in graph.items():
        before = [found[other] for other in found if feeds(graph[other], stage)]
        found[name] = {key for key in keys if reads(stage, key)}.union(*before)
    return {name: sorted(of_stage) for name, of_stage in found.items()}


def reads(stage: dict[str, Any], key: str) -> bool:
    """Whether a stage itself depends on the key; with `${…}` in it, it depends on every key."""
    if "${" in json.dumps(stage, default=str) or "params.yaml" in stage.get("deps", []):
        return True
    files = [
        one if isinstance(one, dict) else {"params.yaml": [one]} for one in stage.get("params", [])
    ]
    named = [file["params.yaml"] for file in files if "params.yaml" in file]
    if not all(named):
        return True  # an entry without keys: the whole file
    return any(nested(key, name) for name in chain.from_iterable(named))


def nested(key: str, name: str) -> bool:
    """Whether one of two dotted keys is the other or holds it."""
    return f"{key}.".startswith(f"{name}.") or f"{name}.".startswith(f"{key}.")


def feeds(earlier: dict[str, Any], later: dict[str, Any]) -> bool:
    """Whether an output of one stage is, contains or lies in a dependency of another."""
    listed = chain.from_iterable(earlier.get(kind, []) for kind in ("outs", "metrics", "plots"))
    made = [PurePosixPath(next(iter(one)) if isinstance(one, dict) else one) for one in listed]
    needed = [PurePosixPath(one) for one in later.get("deps", [])]
    pairs = product(made, needed)
    return any(out.is_relative_to(dep) or dep.is_relative_to(out) for out, dep in pairs)


@dataclass(frozen=True)
class _Planner:
    sets: list[Params]
    base: Params  # the values in params.yaml of all keys that a set changes
    values: dict[int, Params]  # for each set, the values of the same keys
    read: dict[str, list[str]]  # for each stage, the keys on which it depends

    def part(self, numbers: list[int], stages: list[str]) -> Part:
        """The part for these sets, which starts with the first of these stages."""
        if len(numbers) == 1:
            return Part(numbers, stages, self.sets[numbers[0] - 1], [])
        shared = [
            stage
            for stage in stages
            if len({self._as_read(stage, number) for number in numbers}) == 1
        ]
        rest = [stage for stage in stages if stage not in shared]
        groups: dict[str, list[int]] = {}
        for number in numbers:
            # Where no stage is left, sets differ only in what no stage reads: each forks alone.
            group = self._as_read(rest[0], number) if rest else str(number)
            groups.setdefault(group, []).append(number)
        forks = [self.part(group, rest) for group in groups.values()]
        return Part(numbers, shared, self._changes(numbers[0], shared), forks)

    def _as_read(self, stage: str, number: int) -> str:
        """What the stage reads of a set, as text to compare."""
        values = self.values[number]
        return json.dumps([values[key] for key in self.read[stage]], default=str)

    def _changes(self, number: int, stages: list[str]) -> Params:
        """What the set changes of what these stages read."""
        values = self.values[number]
        changed: Params = {}
        for stage in stages:
            changed |= {
                key: values[key] for key in self.read[stage] if values[key] != self.base[key]
            }
        return changed
