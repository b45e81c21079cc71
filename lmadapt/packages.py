"""Python packages as a carrier of files: downloaded as wheels, checked, unzipped, never imported."""

import subprocess
import sys
import zipfile
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from tempfile import TemporaryDirectory

from rich.progress import track

from lmadapt.errors import Unavailable, UserError
from lmadapt.files import atomic_folder, file_sha256

UNREACHABLE = (
    "NewConnectionError",
    "ConnectTimeoutError",
    "ReadTimeoutError",
    "ProxyError",
    "SSLError",
    "HTTP error 5",
)
"""What pip prints when the registry does not answer."""


def unpack_packages(packages: Mapping[str, str], cache: Path, *, key: str) -> dict[str, Path]:
    """Folders with the unzipped wheels, by package name, in the given order.

    `packages` maps NAME==VERSION to the SHA-256 of the wheel; `key` is where it stands in params.yaml. What was
    checked and unzipped before is taken from `cache`. Raises UserError when a package does not exist, has another
    SHA-256 or would write outside its folder, Unavailable when the registry does not answer.
    """
    folders = {requirement: cache / f"{requirement}-{sha256[:16]}" for requirement, sha256 in packages.items()}
    missing = [requirement for requirement, folder in folders.items() if not folder.is_dir()]
    with ThreadPoolExecutor(max_workers=4) as pool:
        jobs = [pool.submit(_fetch, name, packages[name], folders[name], key) for name in missing]
        for job in track(as_completed(jobs), "packages", total=len(jobs), disable=not jobs):
            job.result()
    return {requirement.partition("==")[0]: folder for requirement, folder in folders.items()}


def _fetch(requirement: str, sha256: str, folder: Path, key: str) -> None:
    if "==" not in requirement:
        raise UserError(f"{key}: {requirement!r} must be given as NAME==VERSION")
    with TemporaryDirectory() as download:
        wheel = _download(requirement, Path(download), key)
        found = file_sha256(wheel)
        if found != sha256:
            raise UserError(f"{key}: {requirement}: expected SHA-256 {sha256}, got {found} ({wheel.name})")
        _unzip(wheel, folder, key)


def _download(requirement: str, folder: Path, key: str) -> Path:
    options = ["--no-deps", "--only-binary=:all:", "--no-cache-dir", "--disable-pip-version-check", "--quiet"]
    command = [sys.executable, "-m", "pip", "download", *options, "--dest", str(folder), requirement]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    if result.returncode == 0:
        return next(folder.glob("*.whl"))
    reason = " ".join(result.stderr.split())[-600:]
    if any(sign in result.stderr for sign in UNREACHABLE):
        raise Unavailable(f"{key}: {requirement}: the package registry does not answer: {reason}")
    raise UserError(f"{key}: {requirement}: pip cannot download it as a wheel: {reason}")


def _unzip(wheel: Path, folder: Path, key: str) -> None:
    with zipfile.ZipFile(wheel) as archive, atomic_folder(folder) as target:
        for name in archive.namelist():
            if not (target / name).resolve().is_relative_to(target.resolve()):
                raise UserError(f"{key}: {wheel.name} holds the unsafe file name {name!r}")
        archive.extractall(target)
