from typing import Any

import pytest

from lmadapt.report.markdown import escape, summarise_in_markdown
from lmadapt.verdict.figures import EvaluationFigures
from tests.report_inputs import make_figures


def summarise(figures: dict[str, Any], **options: Any) -> str:
    return summarise_in_markdown(EvaluationFigures.model_validate(figures), **options)


def test_the_summary_starts_with_verdict_reason_and_remedy() -> None:
    lines = summarise(make_figures("HOLD")).splitlines()
    assert lines[0] == "### ⛔ HOLD"
    assert lines[2] == "Capitals became worse by 7.9 points, and the loss may reach 11.2 points."
    assert lines[6] == r"- Raise sft.replay\_fraction from 0.10 to 0.20."


def test_a_ship_has_no_remedy() -> None:
    text = summarise(make_figures())
    assert text.startswith("### ✅ SHIP\n")
    assert "What to do next" not in text


def test_a_ship_names_its_reservations_in_title_and_list() -> None:
    figures = make_figures()
    figures["verdict"]["reservations"] = ["trivia became worse by 2.0 points; within its margin"]
    lines = summarise(figures).splitlines()
    assert lines[0] == "### ✅ SHIP with reservations"
    assert lines[4:7] == [
        "**Reservations**",
        "",
        "- trivia became worse by 2.0 points; within its margin",
    ]


def test_alarms_and_behaviour_tests_have_rows_with_their_margins() -> None:
    text = summarise(make_figures())
    assert "| rise of general bits per byte |  |  |  |  | 3.2 % [1.8, 3.9], margin 5.0 % |" in text
    assert "| divergence, bits per token |  |  |  |  | 0.60 [0.57, 0.63], margin 1 |" in text
    assert "| major behaviours, n = 6 |  |  |  |  | 1 lost, 1 gained |" in text


def test_tables_hold_the_figures_with_the_worst_category_first() -> None:
    lines = summarise(make_figures()).splitlines()
    general = next(line for line in lines if line.startswith("| general accuracy"))
    accuracies = "65.3 % | 65.3 % | 59.7 % | 77.6 %"
    change = "**+12.3** points [+10.7, +13.8]"
    assert general == f"| general accuracy, n = 2,199 | {accuracies} | {change} |"
    categories = [
        line.split("|")[1].strip()
        for line in lines
        if line.startswith(("| general: ", "| domain: "))
    ]
    assert categories[0] == "general: provinces"
    assert categories[8] == "domain: mitigation"
    assert len(categories) == 12


def test_what_was_not_measured_has_no_row() -> None:
    figures = make_figures()
    figures["changes"]["adapted_vs_reference"]["bits_per_byte"]["domain"]["difference"] = None
    figures["models"]["adapted"]["behaviour"] = {"passed": 0, "n": 0}
    figures["behaviour_tests"] = {"major": None, "free_answers": None}
    text = summarise(figures)
    assert "general text" in text
    assert "domain text" not in text
    assert "behaviour" not in text


def test_the_models_are_named_with_the_precision_in_which_they_run() -> None:
    figures = make_figures()
    header = next(line for line in summarise(figures).splitlines() if "|" in line)
    assert header == (
        "|  | reference: base, bf16 | base, NF4 | pretrained, NF4 | adapted: adapter over NF4 | "
        "adapted against reference |"
    )
    figures["judged"] |= {"reference_precision": "nf4"}
    header = next(line for line in summarise(figures).splitlines() if "|" in line)
    assert header.startswith("|  | reference: base, NF4 | pretrained, NF4 | adapted:")


def test_any_two_models_can_be_compared() -> None:
    figures = make_figures()
    figures["models"] = {name: figures["models"][name] for name in ("adapted", "reference")}
    figures["judged"] |= {"reference": "models:/tiny@champion", "reference_version": 3}
    text = summarise(figures)
    assert "against models:/tiny\\@\u200bchampion (version 3), bf16" in text
    header = next(line for line in text.splitlines() if "|" in line)
    assert header.count("|") == 5


@pytest.mark.parametrize(
    ("text", "escaped"),
    [
        ("a|b", r"a\|b"),
        ("<script>", r"\<script\>"),
        ("one\n| --- |\ntwo", r"one \| --- \| two"),
        ("[x](y) `z`", r"\[x\](y) \`z\`"),
        ("ask @team about #12", "ask \\@\u200bteam about \\#\u200b12"),
    ],
)
def test_markup_from_data_stays_text(text: str, escaped: str) -> None:
    assert escape(text) == escaped
