"""Run one command and end all it started when it, this process or the parent ends: `supervise.py PARENT_PID COMMAND…`.

`dvc` does not end its stage when it is killed, and a second run would then write beside the orphan. This process
asks the kernel (prctl(2), Linux) to be told when its parent dies, and to inherit orphans, so that it can wait for them.
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
GRACE_SECONDS = (
    120.0  # between asking a process to end, which may have a checkpoint to write, and ending it
)


def supervise(parent: int, command: list[str]) -> int:
    """Run `command` in its own process group; its exit code, or 128 + signal when this process was told to stop."""
    if sys.platform == "linux":
        libc = ctypes.CDLL(None)
        libc.prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
        libc.prctl(PR_SET_CHILD_SUBREAPER, 1)
    for number in STOPPING:
        signal.signal(number, _stop)
    if os.getppid() != parent:  # it died before the kernel was asked
        return 128 + signal.SIGTERM
    child = subprocess.Popen(command, process_group=0)
    try:
        return child.wait()
    finally:
        end_group(child.pid)


def end_group(group: int) -> None:
    """Ask the processes of a group to end, then end them; returns when none is left."""
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
