"""What page, terminal and Markdown say of lost items."""

import json
from pathlib import Path

from lmadapt.report.markdown import summarise_in_markdown
from lmadapt.report.page import write_report
from lmadapt.report.terminal import render_result
from lmadapt.verdict.figures import EvaluationFigures
from tests.report_inputs import Row, make_figures, make_items, report_arguments


def page(folder: Path, figures: Row) -> str:
    target = folder / "report.html"
    checked = EvaluationFigures.model_validate(figures)
    write_report(target, checked, make_items(8), **report_arguments())
    return " ".join(target.read_text().split())


def terminal(folder: Path, figures: Row) -> str:
    (folder / "evaluate.json").write_text(json.dumps(figures))
    version = {"model_name": "m", "version": "1", "aliases": []}
    (folder / "register.json").write_text(json.dumps(version))
    evaluation, registration = folder / "evaluate.json", folder / "register.json"
    return "\n".join(map(str, render_result(evaluation, Path("report"), registration)))


def test_confident_losses_are_on_the_first_screen_of_the_page(tmp_path: Path) -> None:
    header = page(tmp_path, make_figures()).partition("</header>")[0]
    assert "known well, lost</dt><dd><b>4</b><small>of 718 general items; 0.3 to 1.2 %" in header


def test_confident_losses_are_in_the_terminal_and_in_markdown(tmp_path: Path) -> None:
    said = terminal(tmp_path, make_figures())
    assert "Of 718 general items that the base knew well, 4 were lost (0.6 % \\[0.3, 1.2])." in said
    text = summarise_in_markdown(EvaluationFigures.model_validate(make_figures()))
    assert "| general items known well, n = 718 |  |  |  |  | 4 lost, 0.6 % [0.3, 1.2] |" in text


def test_nothing_is_said_of_confident_losses_that_were_not_measured(tmp_path: Path) -> None:
    figures = make_figures() | {"confident_losses": None}
    text = summarise_in_markdown(EvaluationFigures.model_validate(figures))
    for said in (page(tmp_path, figures), terminal(tmp_path, figures), text):
        assert "well" not in said.partition("</header>")[0]


def test_the_page_compares_what_comes_back_with_what_the_reference_keeps(tmp_path: Path) -> None:
    said = page(tmp_path, make_figures())
    assert (
        "the adapted model regains 17.7 % of what the reference keeps (90 % interval 0.4 to 38.9 %)"
        in said
    )
    assert "<td>74.6</td><td><b>33.8</b><small>25.2 to 43.6</small></td>" in said
    assert "<b>-40.8</b><small>-51.2 to -29.6</small>" in said.replace("\N{MINUS SIGN}", "-")


def test_the_page_says_when_the_reference_knows_the_items_in_no_other_form(tmp_path: Path) -> None:
    figures = make_figures()
    figures["triage"] |= {"spurious": None, "spurious_interval": None}
    assert "The reference is not shown to know them in either way" in page(tmp_path, figures)
