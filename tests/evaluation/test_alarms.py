"""The whole way from answers to the verdict, without a model."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from lmadapt.core.recipes import read_recipe
from lmadapt.evaluation.answers import Answers
from lmadapt.evaluation.comparison import Measured
from lmadapt.evaluation.exam import Exam
from lmadapt.evaluation.figures import summarise
from lmadapt.evaluation.predictions import write_predictions
from lmadapt.evaluation.settings import EvaluationSettings
from lmadapt.evaluation.spurious_forgetting import AskedAgain
from lmadapt.evaluation.variants import ModelVariant
from lmadapt.report.markdown import summarise_in_markdown
from lmadapt.report.page import write_report
from lmadapt.verdict.exam_figures import ExamFigures
from lmadapt.verdict.figures import Divergence, EvaluationFigures
from lmadapt.verdict.judged import Judged
from tests.adapted import EXAM as EXAM_USE
from tests.adapted import JUDGED

ROOT = Path(__file__).parents[2]
SECTION = read_recipe("demo-cpu", ROOT / "recipes")["evaluate"]
NAMES = [name for name in EvaluationSettings.__annotations__ if name in SECTION]
SETTINGS = EvaluationSettings(**{name: SECTION[name] for name in NAMES})
CHECKS = 20
ANSWER = "The sea is wide and blue."


def item(group: str, number: int, severity: str = "") -> Any:
    choices = [] if severity else ["a", "b", "c", "d"]
    return {
        "id": f"{group}/{number:03}",
        "group": group,
        "category": group,
        "cluster": "",
        "prompt": "?",
        "choices": choices,
        "answer": None if severity else 0,
        "check": '{"kind": "contains_all", "values": ["sea"]}' if severity else "",
        "severity": severity,
    }


ITEMS = [
    *(item("behaviour", number, "major") for number in range(CHECKS)),
    *(item("domain", number) for number in range(300)),
    *(item("general", number) for number in range(300)),
]
TEXTS: Any = [
    {"id": str(number), "group": "general", "entity": "", "text": "x" * 500} for number in range(10)
]
EXAM = Exam(ITEMS, [None] * len(ITEMS), TEXTS, [[] for _ in TEXTS])


def answers(domain: float, bits: float) -> Answers:
    """A model that is right in general, and in that share of the domain."""
    right = np.array([True] * CHECKS + [n < 300 * domain for n in range(300)] + [True] * 300)
    right[-30:] = False
    likelihoods = [[-1.0, -2.0, -3.0, -4.0] if hit else [-3.0, -2.0, -3.0, -4.0] for hit in right]
    return Answers(
        log_likelihoods=[[] if n < CHECKS else likelihoods[n] for n in range(len(ITEMS))],
        responses=[ANSWER if n < CHECKS else "a" for n in range(len(ITEMS))],
        scores=right.astype(float),
        nats=bits * np.log(2) * 500 * np.linspace(0.9, 1.1, 10),
    )


BASE, ADAPTED = answers(0.5, 1.0), answers(0.8, 1.01)


def judged(adapted: Answers, bits_of_divergence: float = 0.3) -> EvaluationFigures:
    moved = [
        Divergence(
            value=bits_of_divergence,
            interval=(bits_of_divergence - half, bits_of_divergence + half),
            tokens=1000,
        )
        for half in (0.05, 0.08)
    ]
    measured = Measured(
        variants={"adapted": ModelVariant(ROOT, "bf16")},
        exam=EXAM,
        answers={"reference": BASE, "adapted": adapted},
        kl_to_reference={"adapted": moved[0]},
        asked_again=AskedAgain(None, {}),
        divergences=moved,
    )
    return summarise(
        measured,
        SETTINGS,
        judged=Judged.model_validate(JUDGED),
        exam_use=ExamFigures.model_validate(EXAM_USE),
    )


def test_a_better_model_ships_and_its_harder_text_is_a_reservation() -> None:
    found = judged(ADAPTED)
    assert found.verdict.outcome == "SHIP"
    assert found.verdict.title == "SHIP with reservations"
    assert found.verdict.reservations == [
        "bits per byte of general text rose by 1.0 %; within the margin of 5.0 %"
    ]
    assert found.alarms.kl is not None
    assert (found.alarms.kl.value, found.alarms.kl.low_adjusted) == (0.3, pytest.approx(0.22))


def test_the_graded_score_decides_and_is_shown_beside_accuracy(tmp_path: Path) -> None:
    found = judged(ADAPTED)
    general = found.changes["adapted_vs_reference"].general
    assert general.graded is not None
    assert found.temperature is not None
    assert 0 < (general.graded.margin or 0) < general.margin
    write_report(tmp_path / "page.html", found, [], significance=0.05)
    page = (tmp_path / "page.html").read_text()
    assert "of the graded score, the probability of the right choice" in page
    assert "its p, loss reaches margin" in page
    assert "graded score |" in summarise_in_markdown(found)


def test_predictions_hold_graded_scores_and_their_temperature(tmp_path: Path) -> None:
    temperature = judged(ADAPTED).temperature
    write_predictions(EXAM, {"adapted": ADAPTED}, tmp_path / "p.parquet", temperature)
    rows = pq.read_table(tmp_path / "p.parquet").to_pylist()
    assert {row["temperature"] for row in rows} == {temperature}
    for row in rows:
        likelihoods = np.array(row["log_likelihoods"])
        weights = np.exp(likelihoods / temperature) if len(likelihoods) else [row["score"]]
        assert row["graded"] == pytest.approx(weights[0] / max(1e-9, np.sum(weights)) or 0.0)
    write_predictions(EXAM, {"adapted": ADAPTED}, tmp_path / "p.parquet", None)
    assert set(pq.read_table(tmp_path / "p.parquet")["graded"].to_pylist()) == {None}


def test_doubled_general_bits_per_byte_are_held() -> None:
    found = judged(replace(ADAPTED, nats=2 * BASE.nats))
    assert found.verdict.outcome == "HOLD"
    assert "bits per byte of general text rose by 100.0 %" in found.verdict.reason.lower()
    assert any("general text became harder" in line for line in found.verdict.remedy)


def test_six_bits_of_divergence_are_held() -> None:
    assert judged(ADAPTED, 6.0).verdict.outcome == "HOLD"


@pytest.mark.parametrize("said", ["", "the sea the sea the sea the sea"])
def test_a_model_whose_free_answers_are_all_empty_or_loop_is_held(said: str) -> None:
    responses = [said if n < CHECKS else "a" for n in range(len(ITEMS))]
    found = judged(replace(ADAPTED, responses=responses))
    assert found.verdict.outcome == "HOLD"
    assert "20 of 20 usable free answers" in found.verdict.reason
    free = found.models["adapted"].free_answers
    assert (free.empty, free.looping) == ((20, 0) if not said else (0, 20))
    assert any("20 free answers became empty or loop" in line for line in found.verdict.remedy)


def test_20_of_20_major_behaviours_lost_are_held() -> None:
    scores = np.where(np.arange(len(ITEMS)) < CHECKS, 0.0, ADAPTED.scores)
    found = judged(replace(ADAPTED, scores=scores))
    assert found.verdict.outcome == "HOLD"
    assert found.verdict.reason.startswith("20 of 20 major behaviours were lost")
