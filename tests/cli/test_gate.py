import ast
import json
import re
import shlex
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import check_jsonschema
import numpy as np
import pytest
import yaml
from jsonschema import Draft7Validator, Draft202012Validator
from typer.testing import CliRunner

from lmadapt.cli.app import app
from lmadapt.core.errors import UserError
from lmadapt.evaluation.gate import GateFigures, GateSettings, judge_results
from lmadapt.evaluation.paired_results import pair_results
from lmadapt.sources.item_scores import ItemScore, Results, content_hash
from lmadapt.verdict.decision import Scored, compare, judge
from lmadapt.verdict.figures import schema_text
from tests.test_wiring import FILES, ROOT

DATA = ROOT / "tests/sources/data"
LEVELS = {"margin": 0.02, "category_margin": 0.05, "significance": 0.05}


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that is no project."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.delenv("GITHUB_STEP_SUMMARY", raising=False)
    return tmp_path


def gate(*arguments: str | Path) -> Any:
    return CliRunner().invoke(app, ["gate", *map(str, arguments)])


def results(scores: Any, **labels: Any) -> Results:
    """Items 0, 1, …; a label is a value for all, or a list of values."""

    def item(number: int) -> ItemScore:
        own = {
            key: value[number] if isinstance(value, list) else value
            for key, value in labels.items()
        }
        values = {"task": "", "id": f"{number:05}", "category": "all", "place": f"line {number}"}
        values["content"] = content_hash(number)
        return ItemScore(**{**values, "score": float(scores[number]), **own})

    return Results("table", [item(number) for number in range(len(scores))], {"": "score"})


def table(target: Path, scores: Any, categories: list[str], clusters: list[str]) -> Path:
    rows = zip(range(len(scores)), scores, categories, clusters, strict=True)
    lines = [f"{number:05},{score},{name},{cluster}" for number, score, name, cluster in rows]
    target.write_text("\n".join(["id,score,category,cluster", *lines]))
    return target


@pytest.mark.parametrize("seed", range(12))
def test_the_verdict_of_the_gate_is_that_of_the_decision_on_the_same_scores(seed: int) -> None:
    draw = np.random.default_rng(seed)
    n = 600
    categories = draw.choice(["law", "trivia", "sums"], n).tolist()
    clusters = [f"c{number}" for number in draw.integers(0, 150, n)]
    before = (draw.random(n) < 0.6).astype(float)
    inside = np.array(categories) == "law"
    shift = draw.choice([-0.3, 0.0, 0.3])
    chance = np.where(inside, 0.7, 0.6 + shift * (draw.random(n) < 0.5))
    after = np.where(draw.random(n) < 0.3, draw.random(n) < chance, before).astype(float)
    ids = np.array([f"{number:05}" for number in range(n)])
    groups = np.where(inside, "domain", "general")
    expected = judge(
        compare(
            Scored(ids, groups, np.array(categories), np.array(clusters), before),
            Scored(ids, groups, np.array(categories), np.array(clusters), after),
            **LEVELS,
        ),
        [],
        significance=0.05,
    )
    labels = {"category": categories, "cluster": clusters}
    order = draw.permutation(n)
    shuffled = results(after, **labels)
    shuffled.items[:] = [shuffled.items[place] for place in order]
    verdict, rows, _ = judge_results(
        results(before, **labels), shuffled, GateSettings(domain=("l*",))
    )
    assert verdict == expected
    assert [row.name for row in rows] == ["domain", "law", "general", "sums", "trivia"]
    grouped = {**labels, "group": groups.tolist()}
    assert (
        judge_results(results(before, **grouped), results(after, **grouped), GateSettings())[0]
        == expected
    )


def test_without_a_domain_the_tests_are_those_of_general_ability() -> None:
    draw = np.random.default_rng(5)
    before, after = (draw.random((2, 400)) < 0.7).astype(float)
    names = ["law", "trivia"] * 200
    ids = np.arange(440).astype(str)
    padded = [np.concatenate([draw.random(40), scores]) for scores in (before, after)]
    general = compare(
        *(
            Scored(
                ids,
                np.array(["domain"] * 40 + ["general"] * 400),
                np.array(["d"] * 40 + names),
                ids,
                scores,
            )
            for scores in padded
        ),
        **LEVELS,
    )
    _, rows, _ = judge_results(
        results(before, category=names), results(after, category=names), GateSettings()
    )
    tests = [general.general, *general.categories.values()]
    assert [row.noninferiority_p for row in rows] == pytest.approx(
        [test.noninferiority_p for test in tests], rel=1e-5
    )
    assert [row.interval[0] for row in rows] == pytest.approx(
        [test.change.interval[0] for test in tests], rel=1e-5
    )


@pytest.mark.parametrize(
    ("lost", "gained", "outcome", "code"),
    [(0.0, 0.0, "SHIP", 0), (0.2, 0.0, "HOLD", 2), (0.2, 0.2, "INCONCLUSIVE", 3)],
)
def test_the_exit_code_says_what_was_lost(
    tmp_path: Path, lost: float, gained: float, outcome: str, code: int
) -> None:
    n = 1000
    before = [number % 2 for number in range(n)]
    changed = [number % 100 / 100 for number in range(n)]
    after = [
        1 - right if share < (lost if right else gained) else right
        for right, share in zip(before, changed, strict=True)
    ]
    labels = (["law", "law", "sums", "sums"] * 250, [f"c{number % 500}" for number in range(n)])
    done = gate(
        table(tmp_path / "before.csv", before, *labels),
        table(tmp_path / "after.csv", after, *labels),
        "--json",
        "gate.json",
        "--markdown",
        "gate.md",
    )
    assert (done.exit_code, outcome in done.output) == (code, True)
    figures = json.loads(Path("gate.json").read_text())
    assert figures["outcome"] == outcome
    assert {row["clusters"] for row in figures["rows"]} == {n // 2, n // 4}
    assert figures["reason"] in done.output
    assert f" {outcome}\n" in Path("gate.md").read_text()
    schema = json.loads((ROOT / "docs/gate.schema.json").read_text())
    assert list(Draft202012Validator(schema).iter_errors(figures)) == []


def test_the_programs_own_files_are_judged_where_there_is_no_project(
    elsewhere: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(elsewhere / "summary.md"))
    lm_eval = gate(DATA / "lm_eval/before", DATA / "lm_eval/after", "--domain", "sums")
    inspect = gate(DATA / "inspect/before.eval", DATA / "inspect/after.json", "--metric", "exact")
    promptfoo = gate(DATA / "promptfoo/before.json", DATA / "promptfoo/after.jsonl")
    assert "general: passages │ 40 │ 65.0 % │ 47.5 %" in lm_eval.output
    assert "BEFORE: the score of an item is the mean of 2 answers" in inspect.output
    assert "11 of 32 items were asked with another prompt" in promptfoo.output
    assert [done.exit_code for done in (lm_eval, inspect, promptfoo)] == [3, 3, 3]
    summary = (elsewhere / "summary.md").read_text()
    assert summary.count("### ❔ INCONCLUSIVE") == 3
    assert "| general: passages | 40 | 65.0 % | 47.5 % |" in summary


def test_items_are_paired_by_what_is_asked_whatever_their_ids() -> None:
    before = results([1, 0, 1], content=["x", "y", "z"])
    after = results([0, 1, 1], content=["z", "x", "y"])
    pairs, notes = pair_results(before, after)
    assert [(pair.before.score, pair.after.score) for pair in pairs] == [(1, 1), (0, 1), (1, 0)]
    assert notes == ["3 of 3 items have another id; paired by what is asked"]


def test_another_exam_under_the_same_ids_is_refused() -> None:
    with pytest.raises(UserError) as refused:
        pair_results(results([1, 0]), results([1, 0], content=["x", "y"]))
    assert str(refused.value) == (
        "both models must answer the same items; 2 items are only in BEFORE: '00000', '00001'; "
        "2 items are only in AFTER: '00000', '00001'; 2 of them have the same id in both, but "
        "another question or answer"
    )


def test_missing_items_are_counted_and_named() -> None:
    with pytest.raises(
        UserError, match=r"5 items are only in BEFORE: '00001', '00002', '00003', …$"
    ):
        pair_results(results([1] * 6), results([1]))


def test_an_item_that_occurs_twice_is_refused_unless_it_was_asked_again() -> None:
    twice = results([1, 0], id="a", content="x")
    with pytest.raises(UserError, match=r"AFTER: 1 items occur more than once: 'a \(line 1\)'"):
        pair_results(results([1], id="a", content="x"), twice)
    again = results([1, 0], id="a", content="x", repeat=["1", "2"])
    pairs, notes = pair_results(results([1], id="a", content="x"), again)
    assert [pair.after.score for pair in pairs] == [0.5]
    assert notes == ["AFTER: the score of an item is the mean of 2 answers"]
    with pytest.raises(UserError, match="BEFORE: 1 items occur more than once: 'a'"):
        pair_results(results([1, 0], id="a"), twice)


@pytest.mark.parametrize("label", ["category", "cluster", "group"])
def test_an_item_with_another_label_on_the_other_side_is_refused(label: str) -> None:
    before, after = results([1], **{label: "domain"}), results([1], **{label: "general"})
    with pytest.raises(UserError, match=f"1 items have another {label} in AFTER than in BEFORE"):
        pair_results(before, after)


def test_results_of_other_programs_or_metrics_are_not_compared() -> None:
    with pytest.raises(UserError, match="BEFORE has the format table, AFTER lm-eval"):
        pair_results(results([1]), Results("lm-eval", results([1]).items, {"": "score"}))
    with pytest.raises(UserError, match="BEFORE is scored by score, AFTER by acc"):
        pair_results(results([1]), Results("table", results([1]).items, {"": "acc"}))


def test_a_wrong_domain_and_mixed_groups_are_refused() -> None:
    plain = results([1] * 60, category=["law", "sums"] * 30)
    with pytest.raises(UserError, match=r"--domain lew: .*did you mean `law`. present: law, sums"):
        judge_results(plain, plain, GateSettings(domain=("lew",)))
    mixed = results([1] * 60, group=["domain", ""] * 30)
    with pytest.raises(UserError, match="30 items have no group, others have"):
        judge_results(mixed, mixed, GateSettings())
    grouped = results([1] * 60, group=["domain", "general"] * 30)
    with pytest.raises(UserError, match="leave --domain out"):
        judge_results(grouped, grouped, GateSettings(domain=("all",)))
    few = results([1] * 60, category=["law"] * 40 + ["sums"] * 20)
    with pytest.raises(UserError, match="category 'sums' has 20 items; at least 30 are needed"):
        judge_results(few, few, GateSettings())


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["before.csv"], "AFTER is missing"),
        (["--category-margin", "0.1"], "--category-margin needs BEFORE and AFTER"),
        (["before.csv", "after.csv", "--margin", "2"], "--margin 2: allowed: more than 0 and less"),
        (["before.csv", "after.csv"], "before.csv: no such file or folder; allowed: samples_"),
    ],
)
def test_wrong_usage_is_no_verdict(arguments: list[str], said: str) -> None:
    done = gate(*arguments)
    assert done.exit_code == 1
    assert said in done.output


def test_the_defaults_are_those_of_the_recipe() -> None:
    recipe = yaml.safe_load((ROOT / "recipes/defaults.yaml").read_text())["evaluate"]
    settings = GateSettings()
    assert {name: getattr(settings, name) for name in LEVELS} == {
        name: recipe[name] for name in LEVELS
    }
    assert recipe["margin"] == 0.02
    shown = gate("--help").output
    assert all(f"[default: {recipe[name]}]" in shown for name in LEVELS)


def test_the_schema_in_docs_is_what_the_model_gives() -> None:
    written = (ROOT / "docs/gate.schema.json").read_text()
    assert written == schema_text(GateFigures, "lmadapt gate --json"), (
        "stale: python -m lmadapt.evaluation.gate > docs/gate.schema.json"
    )


def imported(module: str, seen: dict[str, set[str]]) -> None:
    """Adds what is imported when `module` is: by module, the top-level names of its imports."""
    seen[module] = set()
    for node in ast.parse(FILES[module].read_text()).body:
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        if isinstance(node, ast.ImportFrom) and node.module:
            names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        seen[module] |= {name.partition(".")[0] for name in names}
        for name in names:
            if name in FILES and name not in seen:
                imported(name, seen)


def test_the_gate_imports_only_what_the_action_installs() -> None:
    """So neither torch nor MLflow, without a new interpreter to look into."""
    seen: dict[str, set[str]] = {}
    for module in ("cli.app", "evaluation.gate", "report.gate_summary", "sources.item_results"):
        imported(f"lmadapt.{module}", seen)
    used = set().union(*seen.values())
    assert {"numpy", "scipy", "pydantic", "typer", "rich"} <= used
    assert not used & {"torch", "transformers", "mlflow", "pandas", "dvc"}
    installed = {name.replace("-", "_").partition(".")[0] for name in action_packages()}
    declared = {
        re.split(r"[\[>=<]", line)[0].replace("-", "_").partition(".")[0] for line in dependencies()
    }
    assert used & declared <= installed


def dependencies() -> list[str]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    return [*project["dependencies"], *project["optional-dependencies"]["gate"]]


def action_step(name: str) -> dict[str, Any]:
    steps = yaml.safe_load((ROOT / "action.yml").read_text())["runs"]["steps"]
    return next(step for step in steps if step.get("id") == name)


def action_packages() -> list[str]:
    found = re.search(r"--constraint \S+ \\\n((?:.*\\\n)*.*)", action_step("install")["run"])
    assert found
    return shlex.split(found[1].replace("\\\n", " "))


@pytest.mark.parametrize(
    ("code", "allowed", "exit_code"),
    [(0, "", 0), (2, "true", 2), (3, "true", 0), (3, "false", 3), (1, "true", 1)],
)
def test_the_action_passes_its_inputs_as_they_are_and_fails_with_the_gate(
    tmp_path: Path, code: int, allowed: str, exit_code: int
) -> None:
    said = tmp_path / "arguments"
    program = tmp_path / "python"
    program.write_text(f'#!/bin/sh\nprintf "%s\\n" "$@" > "{said}"\nexit {code}\n')
    program.chmod(0o755)
    step = action_step("gate")
    values = dict.fromkeys(step["env"], "") | {
        "BEFORE": "a b.jsonl",
        "AFTER": "$(touch hacked).jsonl",
        "DOMAIN": "law; exit 0",
        "ALLOW_INCONCLUSIVE": allowed,
    }
    environment = {**values, "PATH": f"{tmp_path}:/usr/bin:/bin", "RUNNER_TEMP": str(tmp_path)}
    output = tmp_path / "output"
    done = subprocess.run(
        ["bash", "-e", "-o", "pipefail", "-c", step["run"]],
        env={**environment, "GITHUB_OUTPUT": str(output)},
        cwd=tmp_path,
        check=False,
    )
    assert done.returncode == exit_code
    assert said.read_text().splitlines() == [
        "-m", "lmadapt", "gate", "a b.jsonl", "$(touch hacked).jsonl",
        "--json", f"{tmp_path}/lmadapt-gate.json", "--domain", "law; exit 0",
    ]  # fmt: skip
    assert not (tmp_path / "hacked").exists()
    outcome = {0: "SHIP", 2: "HOLD", 3: "INCONCLUSIVE", 1: ""}[code]
    assert f"outcome={outcome}\n" in output.read_text()


def test_the_action_fits_the_schema_of_github_actions() -> None:
    vendored = Path(check_jsonschema.__file__).parent / "builtin_schemas/vendor"
    schema = json.loads((vendored / "github-actions.json").read_text())
    action = yaml.safe_load((ROOT / "action.yml").read_text())
    assert list(Draft7Validator(schema).iter_errors(action)) == []
    del action["runs"]["steps"][-1]["shell"]
    assert list(Draft7Validator(schema).iter_errors(action)) != []


def test_the_action_interpolates_nothing_into_its_scripts_and_reads_every_input() -> None:
    action = yaml.safe_load((ROOT / "action.yml").read_text())
    text = (ROOT / "action.yml").read_text()
    assert all("${{" not in step.get("run", "") for step in action["runs"]["steps"])
    assert all(f"inputs.{name} }}}}" in text for name in action["inputs"])
    assert set(re.findall(r"inputs\.([\w-]+)", text)) == set(action["inputs"])
