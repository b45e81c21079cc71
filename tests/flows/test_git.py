"""Refs of the git remote are taken by their exact names."""

from pathlib import Path

import pytest

from flows.git import COMMITTER, git
from flows.hand_off import remote_commit
from flows.lease import check_lease, lease_ref, take_lease
from flows.run_stage import StageFailed


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """A clone with one commit on main, which is also in its remote."""
    git(tmp_path, "init", "-q", "--bare", "shared.git")
    git(tmp_path, "clone", "-q", "shared.git", "clone")
    clone = tmp_path / "clone"
    git(clone, *COMMITTER, "commit", "-q", "--allow-empty", "-m", "One")
    git(clone, "push", "-q", "origin", "HEAD:refs/heads/main")
    return clone


def push_other(clone: Path, ref: str) -> None:
    """Push another commit to a ref whose name ends like the one that is asked for."""
    other = git(clone, *COMMITTER, "commit-tree", "HEAD^{tree}", "-m", "Other")
    git(clone, "push", "-q", "origin", f"{other}:{ref}")


def test_a_branch_whose_name_ends_like_another_does_not_stand_in_for_it(clone: Path) -> None:
    push_other(clone, "refs/heads/a/refs/heads/main")
    assert remote_commit(clone, "main") == git(clone, "rev-parse", "HEAD")


def test_a_branch_is_missing_when_only_another_s_name_ends_like_it(clone: Path) -> None:
    push_other(clone, "refs/heads/a/refs/heads/absent")
    assert not remote_commit(clone, "absent")


def test_a_branch_whose_name_ends_like_a_lease_breaks_no_lease(clone: Path) -> None:
    token = take_lease(clone, "runs/x")
    push_other(clone, f"refs/heads/{lease_ref('runs/x')}")
    check_lease(clone, "runs/x", token)


def test_another_agent_s_lease_is_seen_behind_a_branch_with_a_like_name(clone: Path) -> None:
    token = take_lease(clone, "runs/x")
    take_lease(clone, "runs/x")
    git(clone, "push", "-q", "origin", f"{token}:refs/heads/{lease_ref('runs/x')}")
    with pytest.raises(StageFailed, match="another agent has taken over runs/x"):
        check_lease(clone, "runs/x", token)
