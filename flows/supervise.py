"""Run one command, and end all its processes when it, this process or the parent ends.

Usage: `supervise.py PARENT_PID COMMAND…`. A killed `dvc` leaves its stage running, and a second run
would then write beside this orphan. So this process asks the kernel (prctl(2), Linux) for a signal
when its parent dies, and to inherit orphans, so that it can wait for them.
"""

import ctypes
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from types import FrameType

PR_SET_PDEATHSIG = 1
PR_SET_CHILD_SUBREAPER = 36
STOPPING = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
# From SIGTERM to SIGKILL: a process may have a checkpoint to write.
GRACE_SECONDS = 120.0


def supervise(parent: int, command: list[str]) -> int:
    """Run `command` in its own process group.

    Returns its exit code, or 128 plus the signal number when a signal stops this process.
    """
    if sys.platform == "linux":
        libc = ctypes.CDLL(None)
        libc.prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
        libc.prctl(PR_SET_CHILD_SUBREAPER, 1)
    for number in STOPPING:
        signal.signal(number, _stop)
    if os.getppid() != parent:  # the parent died before prctl
        return 128 + signal.SIGTERM
    child = subprocess.Popen(command, process_group=0)
    try:
        return child.wait()
    finally:
        end_group(child.pid)


def end_group(group: int) -> None:
    """Send SIGTERM, then SIGKILL, to a process group; returns when it has no process left."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        deadline = time.monotonic() + GRACE_SECONDS
        while time.monotonic() < deadline:
            with suppress(ChildProcessError):
                while os.waitpid(-1, os.WNOHANG)[0]:
                    pass
            try:
                os.killpg(group, number)
            except ProcessLookupError:
                return
            time.sleep(0.05)


def _stop(number: int, frame: FrameType | None) -> None:
    for ignored in STOPPING:
        signal.signal(ignored, signal.SIG_IGN)
    raise SystemExit(128 + number)


if __name__ == "__main__":
    sys.exit(supervise(int(sys.argv[1]), sys.argv[2:]))
