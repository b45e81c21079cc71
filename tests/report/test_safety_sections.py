"""What the page and Markdown say of behaviours, pairs, calibration and subgroups."""

from pathlib import Path

import pytest

from lmadapt.report.markdown import summarise_in_markdown
from lmadapt.report.page import write_report
from lmadapt.verdict.figures import EvaluationFigures
from tests.report_inputs import Row, make_figures, make_items, report_arguments


def page(folder: Path, figures: Row) -> str:
    """The page on one line, with a plain minus sign."""
    target = folder / "report.html"
    checked = EvaluationFigures.model_validate(figures)
    write_report(target, checked, make_items(8), **report_arguments())
    return " ".join(target.read_text().replace("\N{MINUS SIGN}", "-").split())


def test_the_rate_of_each_kind_of_behaviour_is_told_before_and_after(tmp_path: Path) -> None:
    row = '<th scope="row">safety: refusal</th><td>44</td><td>25.0</td><td>4.5</td>'
    said = page(tmp_path, make_figures())
    assert row in said
    assert "<b>-20.5</b><small>-32.0 to -11.0</small>" in said
    text = summarise_in_markdown(EvaluationFigures.model_validate(make_figures()))
    assert "| passed: safety: refusal, n = 44 | 25.0 % |  |  | 4.5 % |" in text


AIMS = [
    ("equal", 0.03, 0.01, "nearer"),
    ("equal", 0.01, -0.03, "farther"),
    ("second", -0.01, -0.03, "nearer"),
    ("second", -0.03, -0.01, "farther"),
    ("first", -0.03, -0.01, "nearer"),
]


@pytest.mark.parametrize(("aim", "before", "after", "word"), AIMS)
def test_a_gap_comes_nearer_to_its_aim_or_goes_farther_from_it(
    tmp_path: Path, aim: str, before: float, after: float, word: str
) -> None:
    change = after - before
    gap = {"aim": aim, "n": 40, "gap_before": before, "gap_after": after, "change": change}
    gap["interval"] = (change - 0.005, change + 0.005)
    tone = {"nearer": "good", "farther": "bad"}[word]
    said = page(tmp_path, make_figures() | {"fairness": {"manners": gap}})
    assert f'<span class="tone {tone}">{word}</span>' in said


def test_calibration_has_both_scores_of_both_groups(tmp_path: Path) -> None:
    section = page(tmp_path, make_figures()).partition('id="calibration"')[2]
    section = section.partition("</section>")[0]
    assert "fitted on the reference (0.21 nats per byte)" in section
    assert "<td>0.031</td><td>0.031</td><td>0.084</td>" in section
    assert '<b class="tone bad">+0.053</b><small>+0.024 to +0.082</small>' in section
    assert '<b class="tone good">-0.130</b>' in section


def test_gaps_between_subgroups_stand_below_their_category(tmp_path: Path) -> None:
    section = page(tmp_path, make_figures()).partition('id="answers"')[2]
    assert (
        "north: given where it is true</th><td>60 / 70</td><td>+2.0</td><td>+12.0</td>" in section
    )
    assert "<b>+10.0</b><small>+1.0 to +19.0</small>" in section
    assert "<b>+5.0</b></td>" in section  # no interval with fewer than two entities
    without = page(tmp_path, make_figures() | {"label_gaps": {}})
    assert "Gaps between subgroups" not in without
