import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from flows.run_stage import StageFailed
from flows.watch import STATE, data_version, watch
from tests.flows.pool import Pool, pool

PARAMS = "fetch:\n  sources:\n    corpus:\n      - path: FOLDER\n      - hub: some/thing\n"
GRAPH = """
stages:
  fetch:
    cmd: echo fetch >> $RAN && grep -q good state.txt
    deps: [state.txt]
"""


@pytest.fixture
def one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, prefect_server: None) -> Iterator[Pool]:
    """A project with one stage and a source outside the project."""
    data = tmp_path / "data"
    data.mkdir()
    (data / "corpus.txt").write_text("words")
    params = PARAMS.replace("FOLDER", str(data))
    with pool(
        tmp_path, 1, monkeypatch, dvc_yaml=GRAPH, params_yaml=params, state_txt="good"
    ) as made:
        yield made


def look(one: Pool) -> str | None:
    return watch(project=one.control)


def test_only_a_new_commit_or_new_content_starts_a_run(
    one: Pool, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    assert look(one)
    assert look(one) is None
    assert "nothing new: main is at" in caplog.text
    corpus = tmp_path / "data/corpus.txt"
    corpus.touch()
    assert look(one) is None
    caplog.clear()
    corpus.write_text("WORDS")  # of the same length
    second = look(one)
    assert second
    assert str(corpus) in caplog.text
    pushed = one.push(note_txt="new")
    third = look(one)
    assert third
    assert json.loads((one.control / STATE).read_text())["main"]["commit"] == pushed
    assert look(one) is None


def test_after_a_failed_run_its_data_is_still_new(one: Pool) -> None:
    assert look(one)
    before = (one.control / STATE).read_bytes()
    one.push(state_txt="broken")
    for _ in range(2):
        with pytest.raises(StageFailed, match="fetch failed"):
            look(one)
        assert (one.control / STATE).read_bytes() == before
    assert one.ran() == ["fetch"] * 3
    one.push(state_txt="good again")
    assert look(one)
    assert look(one) is None


def test_files_that_git_has_are_not_hashed_at_any_checkout(one: Pool) -> None:
    (one.control / "own.txt").write_text("not in git")
    one.push(params_yaml=PARAMS.replace("FOLDER", "."), other_txt="in git")
    found = data_version(one.control, "main")["files"]
    names = {
        Path(name).relative_to(one.control).as_posix() for name in found if ".git/" not in name
    }
    assert names == {"own.txt"}


def test_a_missing_branch_is_named(one: Pool) -> None:
    with pytest.raises(ValueError, match="origin has no branch nothere"):
        data_version(one.control, "nothere")
