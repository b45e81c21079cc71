"""Which stages several params sets have in common: a tree of parts, each of which runs once and is then forked.

A stage is the same in two sets when all keys that it or a stage before it reads have the same values. Two branches of
a graph that do not depend on each other are shared as far as sets agree on the earlier one in dvc.yaml.
"""

import json
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

Params = dict[str, Any]  # SECTION.KEY: value, as the flow `pipeline` takes them
Graph = dict[str, dict[str, Any]]  # the stages of dvc.yaml


@dataclass
class Part:
    """Stages that run once, with changed params, for sets (by number, from 1); then the parts that go on from there.

    A part without forks is the end of the one set it has.
    """

    sets: list[int]
    stages: list[str]
    params: Params
    forks: list["Part"]


def plan(sets: list[Params], settings: dict[str, Any], graph: Graph, stages: list[str]) -> Part:
    """The tree for the chosen stages; ValueError for a key that params.yaml has not and for two sets that are one."""
    base = {
        key: value_in(settings, key, number)
        for number, changed in enumerate(sets, 1)
        for key in changed
    }
    values = {number: base | changed for number, changed in enumerate(sets, 1)}
    numbers = list(values)
    for number in numbers:
        if (same := next(other for other in numbers if values[other] == values[number])) != number:
            raise ValueError(f"sets: {same} and {number} come to the same params")
    if not sets:
        raise ValueError(
            "sets: none given; it is a list of mappings such as {'sft.learning_rate': 0.0001}"
        )
    return _part(numbers, stages, sets, base, values, keys_read(graph, sorted(base)))


def value_in(settings: dict[str, Any], key: str, number: int) -> Any:
    """What params.yaml has for SECTION.KEY; ValueError, naming the set, where it has no such key."""
    section, _, name = key.partition(".")
    found = settings.get(section)
    if not isinstance(found, dict) or name not in found:
        raise ValueError(f"sets: {key} of set {number} is not in params.yaml")
    return found[name]


def keys_read(graph: Graph, keys: list[str]) -> dict[str, list[str]]:
    """By stage, those of the keys on which it depends, by itself or through what comes before it in dvc.yaml."""
    found: dict[str, set[str]] = {}
    for name, stage in graph.items():
        before = [found[other] for other in found if feeds(graph[other], stage)]
        found[name] = {key for key in keys if reads(stage, key)}.union(*before)
    return {name: sorted(of_stage) for name, of_stage in found.items()}


def reads(stage: dict[str, Any], key: str) -> bool:
    """Whether a stage depends on the key by itself; one that may use any key, as by `${…}`, depends on all."""
    if "${" in json.dumps(stage, default=str) or "params.yaml" in stage.get("deps", []):
        return True
    files = [
        one if isinstance(one, dict) else {"params.yaml": [one]} for one in stage.get("params", [])
    ]
    if any("params.yaml" in file and not file["params.yaml"] for file in files):
        return True  # all of the file
    named = [name for file in files for name in file.get("params.yaml", [])]
    return any(
        f"{key}.".startswith(f"{name}.") or f"{name}.".startswith(f"{key}.") for name in named
    )


def feeds(earlier: dict[str, Any], later: dict[str, Any]) -> bool:
    """Whether what one stage makes is, holds or lies in what another one needs."""
    listed = [one for kind in ("outs", "metrics", "plots") for one in earlier.get(kind, [])]
    made = [PurePosixPath(next(iter(one)) if isinstance(one, dict) else one) for one in listed]
    needed = [PurePosixPath(one) for one in later.get("deps", [])]
    return any(out.is_relative_to(dep) or dep.is_relative_to(out) for out in made for dep in needed)


def _part(
    numbers: list[int],
    stages: list[str],
    sets: list[Params],
    base: Params,
    values: dict[int, Params],
    read: dict[str, list[str]],
) -> Part:
    if len(numbers) == 1:
        return Part(numbers, stages, sets[numbers[0] - 1], [])

    def as_read(stage: str, number: int) -> str:
        return json.dumps([values[number][key] for key in read[stage]], default=str)

    shared = [stage for stage in stages if len({as_read(stage, number) for number in numbers}) == 1]
    rest = [stage for stage in stages if stage not in shared]
    groups: dict[str, list[int]] = {}
    for (
        number
    ) in numbers:  # where no stage is left, each set is its own: it differs in what no stage reads
        groups.setdefault(as_read(rest[0], number) if rest else str(number), []).append(number)
    first = values[numbers[0]]
    changed = {
        key: first[key] for stage in shared for key in read[stage] if first[key] != base[key]
    }
    forks = [_part(group, rest, sets, base, values, read) for group in groups.values()]
    return Part(numbers, shared, changed, forks)
