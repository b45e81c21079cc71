import zipfile
from pathlib import Path

import pytest

from demo.packages import unpacked
from lmadapt.core.errors import Unavailable, UserError
from lmadapt.core.files import file_sha256


def make_wheel(
    folder: Path, name: str, files: dict[str, str | bytes], version: str = "1.0"
) -> tuple[str, str]:
    """Write a wheel; returns its NAME==VERSION and SHA-256."""
    folder.mkdir(parents=True, exist_ok=True)
    stem = f"{name.replace('-', '_')}-{version}"
    metadata = {
        f"{stem}.dist-info/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n",
        f"{stem}.dist-info/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        f"{stem}.dist-info/RECORD": "",
    }
    wheel = folder / f"{stem}-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        for file, content in {**files, **metadata}.items():
            archive.writestr(zipfile.ZipInfo(file), content)
    return f"{name}=={version}", file_sha256(wheel)


@pytest.fixture
def registry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "wheels"))
    monkeypatch.chdir(tmp_path)
    return tmp_path / "wheels"


def test_wheels_are_unzipped_once_and_then_read_from_the_cache(registry: Path) -> None:
    packages = dict(
        make_wheel(registry, name, {f"{name}/a.txt": name}) for name in ("zebra", "ape")
    )
    folder = unpacked("zebra", packages)
    assert (folder / "zebra/a.txt").read_text() == "zebra"
    for wheel in registry.iterdir():
        wheel.unlink()
    assert unpacked("zebra", packages) == folder
    assert (unpacked("ape", packages) / "ape/a.txt").read_text() == "ape"
    with pytest.raises(UserError, match=r"fetch.packages: package tiger is missing"):
        unpacked("tiger", packages)


def test_a_wrong_hash_is_an_error_with_key_package_and_both_hashes(registry: Path) -> None:
    requirement, sha256 = make_wheel(registry, "ape", {})
    with pytest.raises(UserError) as error:
        unpacked("ape", {requirement: "0" * 64})
    for part in ("fetch.packages", "ape==1.0", "0" * 64, sha256):
        assert part in str(error.value)
    assert not list(Path(".lmadapt/packages").glob("*"))


def test_a_file_name_outside_the_folder_is_refused(registry: Path, tmp_path: Path) -> None:
    requirement, sha256 = make_wheel(registry, "ape", {"../evil.txt": "x"})
    with pytest.raises(UserError, match=r"unsafe file name '\.\./evil\.txt'"):
        unpacked("ape", {requirement: sha256})
    assert not list(tmp_path.rglob("evil.txt"))


@pytest.mark.usefixtures("registry")
def test_an_unknown_package_and_a_missing_version_are_user_errors() -> None:
    with pytest.raises(UserError, match=r"nothing-here==1.0: pip cannot download") as error:
        unpacked("nothing-here", {"nothing-here==1.0": "0" * 64})
    assert error.value.exit_code == 1
    with pytest.raises(UserError, match="'ape' must have the form NAME==VERSION"):
        unpacked("ape", {"ape": "0" * 64})


def test_a_registry_that_does_not_answer_is_a_temporary_failure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")
    monkeypatch.setenv("PIP_EXTRA_INDEX_URL", "")
    monkeypatch.setenv("PIP_RETRIES", "1")
    with pytest.raises(Unavailable, match="does not answer") as error:
        unpacked("ape", {"ape==1.0": "0" * 64})
    assert error.value.exit_code == 75
