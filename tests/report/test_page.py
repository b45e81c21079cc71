import base64
import hashlib
import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from lmadapt.report import item_list
from lmadapt.report.page import write_report
from lmadapt.verdict.figures import EvaluationFigures
from tests.report_inputs import (
    HOSTILE,
    make_check,
    make_figures,
    make_item,
    make_items,
    report_arguments,
)

OPTIONAL = {  # by section: the figures it shows, and their value when there are none
    "stages": ("attribution", None),
    "dial": ("dial", None),
    "triage": ("triage", None),
    "calibration": ("calibration", None),
    "fairness": ("fairness", {}),
}
ARGUMENTS = {"training": "curves", "lineage": "lineage"}


class Page(HTMLParser):
    """Elements with their attributes, and the text of scripts and styles."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.raw: dict[str, list[str]] = {"script": [], "style": []}
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag in self.raw:
            self.raw[tag].append("")

    def handle_data(self, data: str) -> None:
        if self.cdata_elem:
            self.raw[self.cdata_elem][-1] += data

    def sections(self) -> list[str | None]:
        return [attributes["id"] for tag, attributes in self.elements if tag == "section"]

    def items(self) -> dict[str, Any]:
        return json.loads(self.raw["script"][0])  # type: ignore[no-any-return]


def render(folder: Path, figures: Any = None, items: Any = None, **changed: Any) -> str:
    target = folder / "report.html"
    typed = EvaluationFigures.model_validate(figures or make_figures())
    write_report(target, typed, items or make_items(24), **(report_arguments() | changed))
    return target.read_text(encoding="utf-8")


def test_reservations_and_unmeasurable_categories_are_on_the_first_screen_and_in_the_chart(
    tmp_path: Path,
) -> None:
    figures = make_figures()
    figures["verdict"]["reservations"] = ["capitals is not measurable: <b>why</b>"]
    change = figures["changes"]["adapted_vs_reference"]
    change["categories"]["general"]["capitals"]["measurable"] = False
    page = render(tmp_path, figures)
    assert "<h2>Reservations</h2><ul><li>capitals is not measurable: &lt;b&gt;why" in page
    assert "SHIP with reservations</span></h1>" in page
    assert page.count("capitals (not measurable)") == 2
    assert "the margin is\n5.0 %" in page


def test_every_section_is_there_and_linked(tmp_path: Path) -> None:
    page = Page(render(tmp_path))
    sections = [
        "tests",
        "stages",
        "accuracy",
        "text",
        "dial",
        "triage",
        "calibration",
        "fairness",
        "answers",
        "items",
        "behaviour",
    ]
    assert page.sections() == [*sections, "training", "data", "lineage"]
    links = [attributes["href"] for tag, attributes in page.elements if tag == "a"]
    assert links == [f"#{name}" for name in page.sections()] + ["data_docs/index.html"]


@pytest.mark.parametrize("section", OPTIONAL)
def test_a_section_without_figures_is_left_out(tmp_path: Path, section: str) -> None:
    key, empty = OPTIONAL[section]
    assert section not in Page(render(tmp_path, make_figures() | {key: empty})).sections()


@pytest.mark.parametrize("section", ARGUMENTS)
def test_a_section_without_material_is_left_out(tmp_path: Path, section: str) -> None:
    assert section not in Page(render(tmp_path, **{ARGUMENTS[section]: {}})).sections()


def test_a_comparison_of_two_models_needs_no_pipeline(tmp_path: Path) -> None:
    empty = {"funnel": None, "curves": None, "validation": None, "data_docs": None, "lineage": None}
    figures = make_figures() | {
        "attribution": None,
        "kl_to_reference": None,
        "dial": None,
        "triage": None,
        "calibration": None,
        "fairness": {},
    }
    figures |= {"classification": {}, "generation": {}}
    for model in figures["models"].values():
        for text in model["bits_per_byte"].values():
            text |= {"value": None, "interval": None}
    for text in figures["changes"]["adapted_vs_reference"]["bits_per_byte"].values():
        text |= {"difference": None, "interval": None}
    page = Page(render(tmp_path, figures, [make_item(0), make_item(4)], **empty))
    assert page.sections() == ["tests", "accuracy", "items"]


def test_the_policy_allows_only_our_script_and_style(tmp_path: Path) -> None:
    text = render(tmp_path)
    page = Page(text)
    (policy,) = [
        a["content"] or ""
        for _, a in page.elements
        if a.get("http-equiv") == "Content-Security-Policy"
    ]
    hashes = {
        tag: base64.b64encode(hashlib.sha256(page.raw[tag][-1].encode()).digest()).decode()
        for tag in ("style", "script")
    }
    assert f"style-src 'sha256-{hashes['style']}'" in policy
    assert f"script-src 'sha256-{hashes['script']}'" in policy
    assert policy.startswith("default-src 'none';")
    assert not [
        a for _, a in page.elements if "style" in a or any(name.startswith("on") for name in a)
    ]
    assert not re.findall(r"(?:https?:)?//[a-z]", text.replace("// ", ""))


def test_markup_in_data_is_shown_as_text(tmp_path: Path) -> None:
    figures = json.loads(
        json.dumps(make_figures("HOLD")).replace("capitals", json.dumps(HOSTILE)[1:-1])
    )
    figures["verdict"]["reason"] = HOSTILE
    text = render(tmp_path, figures, data_docs='"><script>', lineage={HOSTILE: HOSTILE})
    page = Page(text)
    assert [tag for tag, _ in page.elements].count("script") == 2
    assert "img" not in {tag for tag, _ in page.elements}
    assert "<!--" not in text
    (row,) = [row for row in page.items()["items"] if row[0] == HOSTILE]
    assert (row[3], row[4][0], row[7], row[8], row[11]) == (HOSTILE, HOSTILE, 0, 0, [HOSTILE])
    assert row[1] == f"general: {HOSTILE}"


def test_items_hold_both_answers_and_their_status(tmp_path: Path) -> None:
    data = Page(render(tmp_path)).items()
    assert data["models"] == ["reference", "adapted"]
    rows = {row[0]: row for row in data["items"]}
    (
        _,
        category,
        status,
        _,
        choices,
        answer,
        check,
        before,
        after,
        before_score,
        after_score,
        notes,
    ) = rows["capitals/evaluation/00000"]
    assert category == "general: capitals"
    assert (status, before, before_score, after, after_score) == (0, answer, 1.0, 3, 0.0)
    assert len(choices) == 4
    assert (check, notes) == ("", ["lost in quantisation"])
    assert rows["free/1"][7:11] == ["Answer 24 a, a few words long", "No zebras here.", 1.0, 0.25]
    assert [row[2] for row in data["items"]] == sorted(row[2] for row in data["items"])


def test_items_of_other_groups_have_their_own_sections(tmp_path: Path) -> None:
    page = Page(render(tmp_path, items=[make_item(0), make_item(1, group="fairness", id="pair")]))
    assert [row[0] for row in page.items()["items"]] == ["capitals/evaluation/00000"]


def test_items_that_do_not_fit_are_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(item_list, "MAX_ITEM_BYTES", 4000)
    text = render(tmp_path, items=[make_item(number) for number in range(40)])
    rows = Page(text).items()["items"]
    assert 5 < len(rows) < 20
    assert {row[2] for row in rows} <= {0, 1}  # lost and gained come first
    assert f"The first {len(rows)} of 40 are here" in text
    monkeypatch.setattr(item_list, "MAX_ITEMS", 3)
    assert len(Page(render(tmp_path)).items()["items"]) == 3


def test_texts_are_cut_shorter_before_an_item_is_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(item_list, "MAX_ITEM_BYTES", 40_000)
    rows = Page(
        render(tmp_path, items=[make_item(number, prompt="x" * 3000) for number in range(40)])
    ).items()["items"]
    assert len(rows) == 40
    assert {len(row[3]) for row in rows} == {602}


def test_a_long_text_is_cut(tmp_path: Path) -> None:
    (row,) = Page(render(tmp_path, items=[make_item(0, prompt="x" * 5000)])).items()["items"]
    assert row[3] == "x" * 2000 + " …"


def test_lost_checks_are_first_in_the_checklist(tmp_path: Path) -> None:
    checks = [
        make_check(1, severity="critical", before=1.0, after=1.0),
        make_check(2, severity="minor", before=1.0, after=0.0),
        make_check(3, severity="critical", before=1.0, after=0.0),
    ]
    text = (
        render(tmp_path, items=[make_item(0), *checks])
        .partition('<section id="behaviour"')[2]
        .partition("<script")[0]
    )
    said = re.findall(r"Say (\d)", text)
    assert said == ["3", "2", "1"]
    assert "I cannot say that &lt;b&gt;now&lt;/b&gt;." in text


@pytest.mark.parametrize(
    ("changed", "kind"),
    [
        ({"noninferiority_p": 0.01, "worse_p_adjusted": 0.01}, "good"),
        ({"noninferiority_p": 0.2, "worse_p_adjusted": 0.01}, "bad"),
        ({"noninferiority_p": 0.2, "worse_p_adjusted": 0.2}, "open"),
    ],
)
def test_a_mark_shows_what_the_tests_of_the_verdict_say(
    tmp_path: Path, changed: dict[str, float], kind: str
) -> None:
    figures = make_figures()
    figures["changes"]["adapted_vs_reference"]["categories"]["general"]["capitals"] |= changed
    row = re.search(r'<span class="name">capitals .*?</li>', render(tmp_path, figures), re.DOTALL)
    assert row
    assert f'class="bar {kind}"' in row[0]
    assert {"good": "acceptable", "bad": "shown to be worse", "open": "not settled"}[kind] in row[0]


def test_an_adapter_scale_other_than_one_is_shown(tmp_path: Path) -> None:
    assert "judged and shipped" not in render(tmp_path)
    assert "<b>0.6</b><small>judged and shipped" in render(
        tmp_path, make_figures() | {"alpha_scale": 0.6}
    )


def test_equal_input_gives_an_equal_file(tmp_path: Path) -> None:
    assert render(tmp_path) == render(tmp_path, items=list(reversed(make_items(24))))


def test_planned_memory_is_beside_the_measured_peak(tmp_path: Path) -> None:
    text = render(
        tmp_path, memory=[{"stage": "sft", "planned": [1.5e9, 2e9, 3e9], "measured": 2.25e9}]
    )
    assert "memory" in Page(text).sections()
    assert "<td>2.00</td><td>1.50 to 3.00</td><td><b>2.25</b></td>" in text


@pytest.mark.parametrize(
    ("before", "after", "interval", "word", "tone"),
    [
        (0.02, 0.05, (0.01, 0.05), "farther", "bad"),
        (-0.05, -0.02, (0.01, 0.05), "nearer", "good"),
        (-0.05, 0.02, (0.05, 0.09), "nearer", "good"),
        (0.05, 0.02, (-0.05, -0.01), "nearer", "good"),
        (-0.02, -0.05, (-0.05, -0.01), "farther", "bad"),
        (0.02, 0.05, (-0.01, 0.07), "farther", "open"),
        (0.02, -0.02, (-0.05, -0.03), "same", "open"),
    ],
)
def test_without_a_preferred_text_the_size_of_a_gap_counts_and_not_its_sign(
    tmp_path: Path, before: float, after: float, interval: Any, word: str, tone: str
) -> None:
    gap: dict[str, Any] = {
        "n": 100,
        "gap_before": before,
        "gap_after": after,
        "change": after - before,
    }
    gap["aim"] = "equal"
    text = render(tmp_path, make_figures() | {"fairness": {"age": gap | {"interval": interval}}})
    assert f'<span class="tone {tone}">{word}</span>' in text
    shown = f"{after - before:+.4f}".replace("-", "\N{MINUS SIGN}")
    assert f"<b>{shown}</b>" in text
