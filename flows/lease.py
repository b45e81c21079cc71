"""Which agent may write the result of a run: the last one that took its lease.

The lease is a ref of the git remote; no clock decides. A disconnected agent need not know that it
was replaced: it pushes its result and the release of its lease in one atomic push, which the git
remote refuses when the lease is another's.
"""

import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from flows.git import COMMITTER, git, remote_ref
from flows.run_stage import StageFailed

LEASE_LOST = 77  # EX_NOPERM of sysexits.h


def lease_ref(branch: str) -> str:
    """The ref that is the lease of `branch`; its commit is the holder's token."""
    return f"refs/lmadapt/leases/{branch}"


def take_lease(project: Path, branch: str) -> str:
    """Take the lease from whoever holds it; the new token."""
    message = f"Lease {uuid.uuid4()}"
    token = git(project, *COMMITTER, "commit-tree", "HEAD^{tree}", "-m", message)
    git(project, "push", "--quiet", "--force", "origin", f"{token}:{lease_ref(branch)}")
    return token


def check_lease(project: Path, branch: str, token: str) -> None:
    """Raise StageFailed (77) when another agent holds the lease."""
    held = remote_ref(project, lease_ref(branch))
    if held != token:
        why = f"another agent has taken over {branch}; this one writes nothing"
        raise StageFailed("lease", LEASE_LOST, [why])


@contextmanager
def lease_of(project: Path, branch: str) -> Iterator[str]:
    """Take the lease, and give it back when the block fails; yields the token.

    It stays as it is when another agent holds it by then, or when git does not answer.
    """
    token = take_lease(project, branch)
    try:
        yield token
    except BaseException:
        with suppress(StageFailed):
            git(project, "push", "--quiet", still_ours(branch, token), "origin", release(branch))
        raise


def push_with_lease(project: Path, branch: str, token: str) -> None:
    """Push HEAD to `branch`, never forced, and give the lease back: both, or neither.

    Raises StageFailed when another agent holds the lease or git refuses the push.
    """
    check_lease(project, branch, token)
    options = ("--quiet", "--atomic", still_ours(branch, token))
    git(project, "push", *options, "origin", f"HEAD:refs/heads/{branch}", release(branch))


def still_ours(branch: str, token: str) -> str:
    """The option of `git push` that makes the remote refuse when the lease is another's."""
    return f"--force-with-lease={lease_ref(branch)}:{token}"


def release(branch: str) -> str:
    """The refspec of `git push` that gives the lease back."""
    return f":{lease_ref(branch)}"
