"""A `python` for tests that start many programs: `python -m NAME` without the time of imports.

A server has imported the libraries of all stages, none of this project's own modules. It forks a
process for each program, which gets the working folder, the environment and the files of whoever
called, reads the modules of NAME from there, and returns its exit code.
"""

import atexit
import gc
import importlib
import json
import os
import runpy
import select
import signal
import socket
import subprocess
import sys
import tempfile
import traceback
from functools import cache
from pathlib import Path

LIBRARIES = [
    "bitsandbytes",
    "dvc.cli",
    "dvc.repo",
    "great_expectations.expectations",
    "mlflow.pyfunc",
    "mlflow.store.tracking.sqlalchemy_store",
    "numba",
    "pandas",
    "peft",
    "pyarrow.parquet",
    "scipy.stats",
    "torch",
    "transformers.trainer",
    "trafilatura",
]
CLIENT = """#!{executable} -IS
import json, os, socket, sys
with socket.socket(socket.AF_UNIX) as server:
    server.connect({address!r})
    asked = json.dumps([sys.argv[1:], os.getcwd(), dict(os.environ)]).encode()
    socket.send_fds(server, [len(asked).to_bytes(8, "big")], [0, 1, 2])
    server.sendall(asked)
    os._exit(int(server.makefile().read() or 1))
"""


@cache
def forked_python() -> Path:
    """The folder of a program `python` that takes `-m NAME ARGUMENTS`; ends with this process."""
    folder = Path(tempfile.mkdtemp(prefix="lmadapt-python-"))
    address = str(folder / "socket")
    client = folder / "python"
    client.write_text(CLIENT.format(executable=sys.executable, address=address))
    client.chmod(0o755)
    server = subprocess.Popen(
        [sys.executable, "-P", __file__, address],  # -P: this folder is not searched for modules
        stdin=subprocess.PIPE,  # closes with this process
        stdout=subprocess.PIPE,
        cwd=folder,
    )
    assert server.stdout
    assert server.stdout.readline() == b"ready\n"
    return folder


def serve(address: str) -> None:
    """Run programs until standard input closes."""
    for name in LIBRARIES:
        importlib.import_module(name)
    gc.freeze()  # so that no process copies what it only looks at
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # who runs a program is reaped by the system
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(address)
        listener.listen()
        print("ready", flush=True)
        while True:
            ready, _, _ = select.select([listener, sys.stdin], [], [])
            if sys.stdin in ready:
                return
            caller, _ = listener.accept()
            if os.fork() == 0:
                listener.close()
                signal.signal(signal.SIGCHLD, signal.SIG_DFL)
                answer(caller)
            caller.close()


def answer(caller: socket.socket) -> None:
    """Run the program that `caller` asks for in a process of its own, and send its exit code."""
    size, files, _, _ = socket.recv_fds(caller, 8, 3)
    asked = caller.makefile("rb").read(int.from_bytes(size, "big"))
    program = os.fork()
    if program == 0:
        caller.close()
        run(*json.loads(asked), files)
    for file in files:
        os.close(file)
    _, status = os.waitpid(program, 0)
    caller.sendall(str(os.waitstatus_to_exitcode(status) % 256).encode())
    os._exit(0)


def run(arguments: list[str], folder: str, variables: dict[str, str], files: list[int]) -> None:
    """Become `python ARGUMENTS`, which starts with `-m NAME`."""
    for number, file in enumerate(files):
        os.dup2(file, number)
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(variables)
    sys.path[0:1] = [folder, *variables.get("PYTHONPATH", "").split(os.pathsep)]
    flag, name, *sys.argv[1:] = arguments
    assert flag == "-m"
    code = 0
    try:
        runpy.run_module(name, run_name="__main__", alter_sys=True)
    except SystemExit as ended:
        code = ended.code if isinstance(ended.code, int) else int(ended.code is not None)
        if isinstance(ended.code, str):
            print(ended.code, file=sys.stderr)
    except BaseException:
        traceback.print_exc()
        code = 1
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)  # Python's own end would free every object of every library, page by page


if __name__ == "__main__":
    serve(sys.argv[1])
