"""Whoever starts the flow `stage` cannot make it write outside runs/, or pass options to git."""

from pathlib import Path
from typing import Any

import pytest

from flows.hand_off import check_names, hand_over

RUN = {"stage": "sft", "commit": "0123abc" + "0" * 33, "branch": "runs/tall-owl-3"}


@pytest.mark.parametrize(
    "branch", ["main", "runs/", "runs/../main", "runs/a b", "xruns/a", "runs/a:main", "runs/a\n"]
)
def test_a_branch_that_is_not_a_run_s_is_refused_before_anything_is_done(
    tmp_path: Path, branch: str
) -> None:
    with pytest.raises(ValueError, match=r"branch: .* allowed: runs/NAME"):
        hand_over("sft", RUN["commit"], branch, tmp_path, print)


@pytest.mark.parametrize(
    "bad", [{"stage": "--force"}, {"commit": "--orphan=x"}, {"commit": "main"}]
)
def test_a_name_that_is_an_option_is_refused(bad: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=f"{next(iter(bad))}: .* allowed: "):
        check_names(**RUN | bad)


def test_the_names_of_a_run_and_of_a_sweep_are_allowed() -> None:
    for branch in ("runs/tall-owl-3", "runs/tall-owl-sft-2", "runs/local"):
        check_names(**RUN | {"branch": branch})
