from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from flows.sweep_plan import Part, feeds, keys_read, plan, reads, with_shared_level

ROOT = Path(__file__).parents[2]
GRAPH = YAML(typ="safe").load(ROOT / "dvc.yaml")["stages"]
SETTINGS = YAML(typ="safe").load(ROOT / "params.yaml")
STAGES = list(GRAPH)


def planned(*sets: dict[str, Any]) -> Part:
    return plan(list(sets), SETTINGS, GRAPH, STAGES)


def test_a_stage_and_all_later_ones_depend_on_its_keys() -> None:
    read = keys_read(
        GRAPH, ["fetch.model", "pretrain.seed", "sft.learning_rate", "register.artifact"]
    )
    by_key = {
        key: [stage for stage in STAGES if key in read[stage]]
        for key in ("fetch.model", "sft.learning_rate")
    }
    assert by_key == {"fetch.model": STAGES, "sft.learning_rate": ["sft", "evaluate", "register"]}
    assert [stage for stage in STAGES if "pretrain.seed" in read[stage]] == STAGES[3:]
    assert [stage for stage in STAGES if "register.artifact" in read[stage]] == STAGES[5:]


def test_sets_that_change_one_stage_share_all_earlier_ones() -> None:
    root = planned({"sft.learning_rate": 1e-4}, {"sft.learning_rate": 3e-4}, {})
    assert (root.sets, root.stages, root.params) == ([1, 2, 3], STAGES[:4], {})
    assert [(fork.sets, fork.stages) for fork in root.forks] == [
        ([number], STAGES[4:]) for number in (1, 2, 3)
    ]
    assert [fork.params for fork in root.forks] == [
        {"sft.learning_rate": 1e-4},
        {"sft.learning_rate": 3e-4},
        {},
    ]


def test_some_sets_share_a_stage_that_others_do_not() -> None:
    sets = [{"pretrain.seed": 1 + i // 2, "sft.seed": i, "curate.seed": 7} for i in range(4)]
    root = planned(*sets)
    assert (root.stages, root.params) == (STAGES[:3], {"curate.seed": 7})
    assert [(fork.sets, fork.stages) for fork in root.forks] == [
        ([1, 2], ["pretrain"]),
        ([3, 4], ["pretrain"]),
    ]
    assert [fork.params for fork in root.forks] == [
        {"curate.seed": 7, "pretrain.seed": seed} for seed in (1, 2)
    ]
    leaves = [*root.forks[0].forks, *root.forks[1].forks]
    assert [leaf.params for leaf in leaves] == sets


def test_sets_with_the_same_stages_still_have_a_branch_each() -> None:
    root = planned({"pools.sft": "cpu"}, {"pools.sft": "gpu", "sft.seed": 0})
    assert (root.stages, root.params) == (STAGES, {})
    assert [(fork.sets, fork.stages) for fork in root.forks] == [([1], []), ([2], [])]


def test_the_plan_of_a_single_set_is_the_pipeline() -> None:
    assert planned({"sft.seed": 3}) == Part([1], STAGES, {"sft.seed": 3}, [])


@pytest.mark.parametrize(
    ("sets", "message"),
    [
        ([{"sft.seed": 1}, {"sft.rate": 1}], "sft.rate of set 2 is not in params.yaml"),
        ([{"sft": {}}], "sft of set 1 is not in params.yaml"),
        ([{"nothere.seed": 1}], "nothere.seed of set 1 is not in params.yaml"),
        (
            [{"sft.seed": 1}, {"sft.seed": SETTINGS["sft"]["seed"]}, {}],
            "2 and 3 lead to the same params",
        ),
        ([], "the list is empty"),
    ],
)
def test_unknown_keys_equal_sets_and_no_sets_are_refused(
    sets: list[dict[str, Any]], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        planned(*sets)


@pytest.mark.parametrize(
    ("stage", "expected"),
    [
        ({"params": ["sft"]}, True),
        ({"params": ["sft.seed"]}, True),
        ({"params": ["sft.seed.inner"]}, True),
        ({"params": ["sft.seeds", "sf"]}, False),
        ({"params": [{"params.yaml": ["sft.seed"]}]}, True),
        ({"params": [{"params.yaml": None}]}, True),
        ({"params": [{"other.yaml": ["sft.seed"]}]}, False),
        ({"deps": ["params.yaml"]}, True),
        ({"cmd": "train ${sft.seed}"}, True),
        ({}, False),
    ],
)
def test_a_stage_reads_the_keys_that_dvc_compares(stage: dict[str, Any], expected: bool) -> None:
    assert reads(stage, "sft.seed") == expected


def test_a_stage_feeds_another_through_a_file_or_its_folder() -> None:
    assert feeds({"outs": ["data/raw"]}, {"deps": ["data/raw/a.parquet"]})
    assert feeds({"metrics": [{"data/raw/m.json": {"persist": True}}]}, {"deps": ["data/raw"]})
    assert not feeds({"outs": ["data/raw"]}, {"deps": ["data/raw2"]})


def test_the_sets_of_a_sweep_divide_the_level_of_the_verdict() -> None:
    sets: list[dict[str, Any]] = [{"sft.learning_rate": rate} for rate in (0.0001, 0.0003)]
    shared = with_shared_level([*sets, {}], SETTINGS, STAGES)
    assert [changed["evaluate.candidates"] for changed in shared] == [3, 3, 3]
    assert with_shared_level(sets, SETTINGS, ["fetch", "curate"]) == sets
    assert with_shared_level(sets, {"evaluate": {}}, STAGES) == sets
    tree = plan(shared, SETTINGS, GRAPH, STAGES)
    assert tree.stages == ["fetch", "curate", "validate", "pretrain"]  # shared as before
    assert all(part.params["evaluate.candidates"] == 3 for part in tree.forks)
    with pytest.raises(ValueError, match=r"set 1 has evaluate.candidates; a sweep sets it"):
        with_shared_level([{"evaluate.candidates": 1}], SETTINGS, STAGES)
