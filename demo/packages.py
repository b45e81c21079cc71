"""Python packages that hold data: downloaded as wheels, checked and unzipped, never imported."""

import subprocess
import sys
import zipfile
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from tempfile import TemporaryDirectory

from rich.progress import track

from lmadapt.core.errors import Unavailable, UserError
from lmadapt.core.files import atomic_folder, file_sha256

CACHE = Path(".lmadapt/packages")
UNREACHABLE = (  # what pip prints when the registry does not answer
    "NewConnectionError",
    "ConnectTimeoutError",
    "ReadTimeoutError",
    "ProxyError",
    "SSLError",
    "HTTP error 5",
)


def unpacked(package: str, packages: Mapping[str, str]) -> Path:
    """The folder with the unzipped wheel of `package`.

    `packages` is fetch.packages of params.yaml: it maps NAME==VERSION to the SHA-256 of the wheel.
    The first call downloads all of them at once into CACHE; later calls read them there. Raises
    UserError when a package is not named, does not exist, has another SHA-256 or would write
    outside its folder, and Unavailable when the registry does not answer.
    """
    folders = {
        requirement: CACHE / f"{requirement}-{sha256[:16]}"
        for requirement, sha256 in packages.items()
    }
    missing = [requirement for requirement, folder in folders.items() if not folder.is_dir()]
    with ThreadPoolExecutor(max_workers=4) as pool:
        jobs = [pool.submit(_fetch, name, packages[name], folders[name]) for name in missing]
        for job in track(as_completed(jobs), "packages", total=len(jobs), disable=not jobs):
            job.result()
    for requirement, folder in folders.items():
        if requirement.partition("==")[0] == package:
            return folder
    raise UserError(f"fetch.packages: package {package} is missing; a module of the demo reads it")


def _fetch(requirement: str, sha256: str, folder: Path) -> None:
    if "==" not in requirement:
        raise UserError(f"fetch.packages: {requirement!r} must have the form NAME==VERSION")
    with TemporaryDirectory() as download:
        wheel = _download(requirement, Path(download))
        found = file_sha256(wheel)
        if found != sha256:
            raise UserError(
                f"fetch.packages: {requirement}: expected SHA-256 {sha256}, got {found}"
                f" ({wheel.name})"
            )
        _unzip(wheel, folder)


def _download(requirement: str, folder: Path) -> Path:
    options = "--no-deps --only-binary=:all: --no-cache-dir --disable-pip-version-check --quiet"
    command = [sys.executable, "-m", "pip", "download", *options.split()]
    command += ["--dest", str(folder), requirement]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    if result.returncode == 0:
        return next(folder.glob("*.whl"))
    reason = " ".join(result.stderr.split())[-600:]
    if any(sign in result.stderr for sign in UNREACHABLE):
        raise Unavailable(
            f"fetch.packages: {requirement}: the package registry does not answer: {reason}"
        )
    raise UserError(f"fetch.packages: {requirement}: pip cannot download it as a wheel: {reason}")


def _unzip(wheel: Path, folder: Path) -> None:
    with zipfile.ZipFile(wheel) as archive, atomic_folder(folder) as target:
        for name in archive.namelist():
            if not (target / name).resolve().is_relative_to(target.resolve()):
                raise UserError(f"fetch.packages: {wheel.name} holds the unsafe file name {name!r}")
        archive.extractall(target)
