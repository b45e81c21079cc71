"""Who may write what a run makes: the last one to take its lease, a ref of the git remote. No clock decides.

An agent that was only cut off finds its lease taken when it is back. What it has to publish goes with the release of
its lease in one atomic push, which the git remote refuses when the lease is another's.
"""

import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from flows.git import git
from flows.run_stage import StageFailed

LEASE_LOST = 77  # EX_NOPERM of sysexits.h


def lease_ref(branch: str) -> str:
    """The ref whose commit is the token of who holds the lease of `branch`."""
    return f"refs/lmadapt/leases/{branch}"


def take_lease(project: Path, branch: str) -> str:
    """Take the lease, from whoever has it; the token."""
    who = ("-c", "user.name=lmadapt", "-c", "user.email=lmadapt@localhost")
    token = git(project, *who, "commit-tree", "HEAD^{tree}", "-m", f"Lease {uuid.uuid4()}")
    git(project, "push", "--quiet", "--force", "origin", f"{token}:{lease_ref(branch)}")
    return token


def check_lease(project: Path, branch: str, token: str) -> None:
    """Raise StageFailed (77) when another has taken the lease."""
    held = git(project, "ls-remote", "origin", lease_ref(branch)).partition("\t")[0]
    if held != token:
        raise StageFailed(
            "lease", LEASE_LOST, [f"another agent has taken over {branch}; nothing is written here"]
        )


@contextmanager
def lease_of(project: Path, branch: str) -> Iterator[str]:
    """The token of the lease, taken; given back when the block fails, unless another has it or git does not answer."""
    token = take_lease(project, branch)
    try:
        yield token
    except BaseException:
        with suppress(StageFailed):
            still_ours = f"--force-with-lease={lease_ref(branch)}:{token}"
            git(project, "push", "--quiet", still_ours, "origin", f":{lease_ref(branch)}")
        raise


def push_with_lease(project: Path, branch: str, token: str) -> None:
    """Push HEAD to `branch`, never forced, and give the lease back: both, or StageFailed and neither."""
    lease = lease_ref(branch)
    check_lease(project, branch, token)
    still_ours = f"--force-with-lease={lease}:{token}"
    git(
        project,
        "push",
        "--quiet",
        "--atomic",
        still_ours,
        "origin",
        f"HEAD:refs/heads/{branch}",
        f":{lease}",
    )
