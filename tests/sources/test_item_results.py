import json
import zipfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest

from lmadapt.core.errors import UserError
from lmadapt.sources.item_results import read_results, recognise
from lmadapt.sources.item_scores import Choice, Results

DATA = Path(__file__).parent / "data"
LM_EVAL, INSPECT, PROMPTFOO = DATA / "lm_eval", DATA / "inspect", DATA / "promptfoo"
Edit = Callable[[dict[str, Any]], object]


def read(path: Path, format: str = "", **choice: str) -> Results:
    return read_results(path, format, Choice(**choice))


def mean(results: Results, task: str) -> float:
    scores = [item.score for item in results.items if item.task == task]
    return sum(scores) / len(scores)


def samples_file(run: str, task: str) -> Path:
    return next((LM_EVAL / run).glob(f"samples_{task}_*.jsonl"))


def written(target: Path, rows: Iterable[Any]) -> Path:
    target.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return target


def edited_lines(source: Path, target: Path, edit: Edit) -> Path:
    """The file with its first row edited."""
    rows = [json.loads(line) for line in source.read_text().splitlines()]
    edit(rows[0])
    return written(target, rows)


def edited_json(source: Path, target: Path, edit: Edit) -> Path:
    content = json.loads(source.read_text())
    edit(content)
    target.write_text(json.dumps(content))
    return target


@pytest.mark.parametrize(
    ("path", "format"),
    [
        (LM_EVAL / "before", "lm-eval"),
        (samples_file("before", "sums"), "lm-eval"),
        (INSPECT / "before.eval", "inspect"),
        (INSPECT / "after.json", "inspect"),
        (INSPECT, "inspect"),
        (PROMPTFOO / "before.json", "promptfoo"),
        (PROMPTFOO / "after.jsonl", "promptfoo"),
    ],
)
def test_the_programs_own_files_are_recognised(path: Path, format: str) -> None:
    assert recognise(path) == format


def test_lm_eval_samples_give_the_accuracies_that_lm_eval_printed() -> None:
    """In its table: acc_norm 0.65 and acc 0.70 on passages, exact_match 0.65 on sums."""
    found = read(LM_EVAL / "before")
    assert len(found.items) == 80
    assert mean(found, "passages") == pytest.approx(0.65)
    assert mean(found, "sums") == pytest.approx(0.65)
    assert mean(read(LM_EVAL / "before", metric="acc,exact_match"), "passages") == 0.70
    assert found.scored_by == {
        "passages": "acc_norm",
        "sums": "exact_match, filter strict-match",
    }


def test_of_several_filters_the_first_is_taken_and_said() -> None:
    assert (
        "sums: filter strict-match, the first of strict-match, word"
        in read(LM_EVAL / "before").notes
    )
    chosen = read(LM_EVAL / "before", filter="word")
    assert chosen.scored_by["sums"] == "exact_match, filter word"
    assert not any("filter" in note for note in chosen.notes)


def test_questions_about_one_passage_are_one_cluster() -> None:
    found = read(samples_file("before", "passages"))
    assert len({item.cluster for item in found.items}) == 20
    assert found.notes == ["passages: items with the same `passage` are one cluster (20)"]
    named = read(samples_file("before", "passages"), cluster="answer", category="answer")
    assert {item.cluster for item in named.items} == {"0", "1"}
    assert {item.category for item in named.items} == {"0", "1"}


@pytest.mark.parametrize(
    ("choice", "said"),
    [
        (
            {"metric": "f1"},
            "the task passages has none of the metrics f1; --metric: one of acc, acc_norm",
        ),
        (
            {"metric": "acc_norm"},
            "the task sums has none of the metrics acc_norm; --metric: one of exact_match",
        ),
        (
            {"filter": "last"},
            "the task sums has no filter 'last'; --filter: one of strict-match, word",
        ),
        ({"cluster": "page"}, "--cluster page: no such value; fields: passage, question, answer"),
        ({"provider": "echo"}, "--after-provider: only for results of promptfoo"),
    ],
)
def test_a_choice_that_lm_eval_samples_do_not_have_is_refused(
    choice: dict[str, str], said: str
) -> None:
    with pytest.raises(UserError, match=r"lm_eval|only for") as refused:
        read(LM_EVAL / "before", **choice)
    assert said in str(refused.value)


def test_a_filter_that_no_task_has_is_refused() -> None:
    with pytest.raises(UserError, match="--filter last: no task has this filter"):
        read(samples_file("before", "passages"), filter="last")


def test_samples_of_one_task_from_two_runs_are_refused() -> None:
    with pytest.raises(UserError, match=r"two files have samples of the task passages: .*before"):
        read(LM_EVAL)


@pytest.mark.parametrize("score", [1.5, -0.1, float("nan"), [1, 2], None, "0.5"])
def test_what_is_no_score_is_refused_with_file_line_and_value(tmp_path: Path, score: Any) -> None:
    file = edited_lines(
        samples_file("before", "sums"),
        tmp_path / "samples.jsonl",
        lambda row: row.update(exact_match=score),
    )
    with pytest.raises(UserError) as refused:
        read(file)
    assert str(refused.value).startswith(f"{file}:1: exact_match is {score!r}; allowed: ")


def test_inspect_logs_give_the_means_that_inspect_reported() -> None:
    """Both forms of a log, the archive with two epochs."""
    for name, answers in {"before.eval": 80, "after.json": 40}.items():
        for scorer in ("exact", "brevity"):
            found = read(INSPECT / name, metric=scorer)
            assert len(found.items) == answers
            assert mean(found, "sums") == pytest.approx(reported(INSPECT / name)[scorer])
    assert read(INSPECT / "before.eval", metric="exact").items[0].repeat == "1"


def reported(log: Path) -> dict[str, float]:
    """What a log's own header says."""
    if log.suffix == ".json":
        header = json.loads(log.read_text())
    else:
        from lmadapt.sources.inspect_results import _open_log

        header, _ = _open_log(log)
    return {
        score["name"]: score["metrics"]["mean"]["value"] for score in header["results"]["scores"]
    }


def test_the_same_question_has_the_same_content_in_both_logs() -> None:
    before, after = (read(INSPECT / name, metric="exact") for name in ("before.eval", "after.json"))
    assert {item.content for item in before.items} == {item.content for item in after.items}
    assert {item.prompt for item in before.items} == {item.prompt for item in after.items}


def test_inspect_metadata_gives_categories_and_clusters() -> None:
    found = read(INSPECT / "after.json", metric="exact", category="topic", cluster="page")
    assert {item.category for item in found.items} == {"even", "odd"}
    assert len({item.cluster for item in found.items}) == 20


@pytest.mark.parametrize(
    ("value", "score"),
    [
        ("C", 1),
        ("I", 0),
        ("P", 0.5),
        ("N", 0),
        ("yes", 1),
        ("No", 0),
        (True, 1),
        (0.25, 0.25),
        ("0.5", 0.5),
    ],
)
def test_grades_of_inspect_are_scores_as_in_inspect(
    tmp_path: Path, value: Any, score: float
) -> None:
    def grade(log: dict[str, Any]) -> None:
        log["samples"] = log["samples"][:1]
        log["samples"][0]["scores"] = {"model": {"value": {"grade": value, "tone": "C"}}}

    file = edited_json(INSPECT / "after.json", tmp_path / "log.json", grade)
    assert read(file, metric="model.grade").items[0].score == score


@pytest.mark.parametrize(
    ("edit", "said"),
    [
        (lambda log: log.update(status="error"), "the log has the status 'error'"),
        (lambda log: log.update(invalidated=True), "was marked as invalidated"),
        (lambda log: log["samples"][3].update(scores=None), "have no score: '4, epoch 1'"),
        (lambda log: log["samples"][3].update(error={"message": "x"}), "1 samples have no score"),
        (lambda log: log.update(samples=[]), "the log has no samples"),
        (lambda log: log["samples"][3]["scores"]["exact"].update(value=9), "epoch 1: exact is 9"),
        (lambda log: log["samples"][3].pop("id"), "not as its format has it (KeyError: 'id')"),
    ],
)  # fmt: skip
def test_a_log_of_inspect_that_is_no_whole_success_is_refused(
    tmp_path: Path, edit: Edit, said: str
) -> None:
    file = edited_json(INSPECT / "after.json", tmp_path / "log.json", edit)
    with pytest.raises(UserError) as refused:
        read(file, metric="exact")
    assert said in str(refused.value)


def test_several_scorers_are_named_when_none_is_chosen() -> None:
    with pytest.raises(UserError, match="several scores; --metric: one of exact, brevity"):
        read(INSPECT / "before.eval")


def test_a_log_of_inspect_whose_run_has_not_ended_is_refused(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "log.eval", "w") as archive:
        archive.writestr("_journal/start.json", "{}")
    with pytest.raises(UserError, match=r"has no header\.json: its run has not ended"):
        read(tmp_path / "log.eval")


def test_promptfoo_results_give_what_promptfoo_counted() -> None:
    stats = json.loads((PROMPTFOO / "before.json").read_text())["results"]["stats"]
    found = read(PROMPTFOO / "before.json")
    assert sum(item.score for item in found.items) == stats["successes"]
    assert len(found.items) == stats["successes"] + stats["failures"]
    graded = read(PROMPTFOO / "before.json", metric="score")
    assert {item.score for item in graded.items} == {0.5, 1.0}
    assert {item.score for item in read(PROMPTFOO / "after.jsonl", metric="right").items} == {0, 1}


@pytest.mark.parametrize(
    ("edit", "choice", "said"),
    [
        ({"failureReason": 2}, {}, "1 tests ended in an error and have no answer"),
        ({"provider": {"id": "other"}}, {}, "2 pairs of provider and prompt fit ''"),
        ({}, {"provider": "gpt"}, "0 pairs of provider and prompt fit 'gpt'"),
        ({}, {"metric": "wrong"}, "has no score 'wrong'; --metric: one of success, score, right"),
        ({}, {"category": "part"}, "--category part: no such value; fields: "),
    ],
)
def test_promptfoo_results_that_name_no_one_score_are_refused(
    tmp_path: Path, edit: dict[str, Any], choice: dict[str, str], said: str
) -> None:
    source = PROMPTFOO / "after.jsonl"
    file = edited_lines(source, tmp_path / "results.jsonl", lambda row: row.update(edit))
    with pytest.raises(UserError) as refused:
        read(file, **choice)
    assert said in str(refused.value)


def test_one_provider_of_several_can_be_chosen(tmp_path: Path) -> None:
    rows = [json.loads(line) for line in (PROMPTFOO / "after.jsonl").read_text().splitlines()]
    others = [{**row, "provider": {"id": "x", "label": "other"}, "success": True} for row in rows]
    file = written(tmp_path / "results.jsonl", rows + others)
    assert mean(read(file, provider="other"), "tests") == 1
    assert mean(read(file, provider=f"echo / {rows[0]['prompt']['label']}"), "tests") < 1


def test_a_table_has_ids_and_scores_and_may_have_labels(tmp_path: Path) -> None:
    file = tmp_path / "scores.csv"
    file.write_text(
        "id,score,group,category,cluster,f1\na,1,domain,law,d1,0.5\nb,0.25,general,,,0\n"
    )
    first, second = read(file).items
    assert (first.score, first.group, first.category, first.cluster) == (1, "domain", "law", "d1")
    assert (second.score, second.category, second.cluster) == (0.25, "all", "")
    assert [item.score for item in read(file, metric="f1").items] == [0.5, 0]
    rows = written(tmp_path / "scores.jsonl", [{"id": 7, "score": True, "repeat": 2}])
    assert (read(rows).items[0].id, read(rows).items[0].score) == ("7", 1)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("id,score\na,2\n", "scores.csv:2: score is 2.0; allowed: a number from 0 to 1"),
        ("id,score\na,good\n", "scores.csv:2: score is 'good'; allowed"),
        ("id,points\na,1\n", "scores.csv:2: score is None; allowed"),
        ("name,score\na,1\n", "scores.csv:2: column id: no such value; fields: name, score"),
        ("id,score,group\na,1,other\n", "scores.csv:2: group is 'other'; allowed: domain, general"),
        ("id,score\na,1,3\n", "scores.csv:2: expected 2 columns"),
        ("id,score\n", "scores.csv: has no results"),
    ],
)
def test_a_table_that_does_not_fit_is_refused(tmp_path: Path, text: str, said: str) -> None:
    file = tmp_path / "scores.csv"
    file.write_text(text)
    with pytest.raises(UserError) as refused:
        read(file)
    assert said in str(refused.value)


def test_what_is_none_of_the_formats_is_refused(tmp_path: Path) -> None:
    (tmp_path / "notes.json").write_text("{}")
    for path in (tmp_path / "notes.json", tmp_path / "absent.csv"):
        with pytest.raises(UserError, match="allowed: samples_"):
            read(path)
    with pytest.raises(UserError, match="did you mean `inspect`"):
        read(INSPECT, "inspct")
