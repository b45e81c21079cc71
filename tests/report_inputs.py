"""Input of the report and the Markdown summary: figures of a demo run, and any number of items."""

import copy
import json
from pathlib import Path
from typing import Any

Row = dict[str, Any]
# A demo run; figures that the demo lacks are made up.
FIGURES = json.loads(Path(__file__).with_name("report_figures.json").read_text())
HOSTILE = "</script><!--<script>alert('x')</script><img src=x onerror=alert(1)> & \u2028 \"quoted\""
CATEGORIES = [("general", "capitals"), ("domain", "mitigation"), ("general", "regions")]
# Before and after: lost, gained, kept, wrong in both.
SCORES = [(1.0, 0.0), (0.0, 1.0), (1.0, 1.0), (0.0, 0.0)]


def make_figures(outcome: str = "SHIP") -> Row:
    """Figures with every section; a HOLD names a category and what to do."""
    figures: Row = copy.deepcopy(FIGURES)
    if outcome == "HOLD":
        figures["changes"]["adapted_vs_reference"]["categories"]["general"]["capitals"] |= {
            "difference": -0.0789,
            "interval": [-0.112, -0.0458],
            "lost": 26,
            "gained": 4,
            "better_p": 1.0,
            "worse_p": 2.9e-05,
            "worse_p_adjusted": 7e-04,
            "noninferiority_p": 0.929,
            "mcnemar_p": 5.9e-05,
        }
        figures["verdict"] |= {
            "outcome": "HOLD",
            "reason": "Capitals became worse by 7.9 points, and the loss may reach 11.2 points.",
            "remedy": [
                "Raise sft.replay_fraction from 0.10 to 0.20.",
                "Lower sft.learning_rate: 1e-4 lost less.",
            ],
        }
    return figures


def make_item(number: int, **changed: Any) -> Row:
    """A four-way item; `number` decides its category and which of the two models are right."""
    before, after = SCORES[number % 4]
    choices = [f"Answer {number} {letter}, a few words long" for letter in "abcd"]
    answer = number % 3
    group, category = CATEGORIES[number // 4 % 3]
    item: Row = {
        "id": f"{category}/evaluation/{number:05}",
        "group": group,
        "category": category,
        "cluster": f"entity {number // 2}",
        "prompt": f"Question {number}: which of these belongs to the entity of that number?",
        "choices": choices,
        "answer": answer,
        "check": "",
        "severity": "",
        "before": {"response": choices[answer if before else 3], "score": before},
        "after": {"response": choices[answer if after else 3], "score": after},
        "notes": ["lost in quantisation"] if number % 4 == 0 else [],
    }
    return item | changed


def make_check(number: int, *, severity: str, before: float, after: float) -> Row:
    """A behaviour check, answered freely."""
    return make_item(
        number,
        id=f"behaviour/{number}",
        group="behaviour",
        category="format",
        prompt=f"Say {number} and nothing else.",
        choices=[],
        answer=None,
        check='{"kind": "number", "value": 7}',
        severity=severity,
        before={"response": f"{number}.", "score": before},
        after={"response": "I cannot say that <b>now</b>.", "score": after},
        notes=[],
    )


def make_items(count: int) -> list[Row]:
    """`count` four-way items and five others.

    The others are a free answer, an item with markup in every text, and three behaviour checks.
    """
    hostile = dict.fromkeys(("id", "category", "prompt"), HOSTILE)
    sides = {
        side: {"response": HOSTILE, "score": score}
        for side, score in (("before", 1.0), ("after", 0.0))
    }
    free = {"choices": [], "answer": None, "check": '{"kind": "contains_all", "values": ["zebra"]}'}
    return [
        *(make_item(number) for number in range(count)),
        make_item(
            count, id="free/1", **free, **{"after": {"response": "No zebras here.", "score": 0.25}}
        ),
        make_item(count, choices=[HOSTILE, "b"], answer=0, notes=[HOSTILE], **hostile, **sides),
        make_check(1, severity="minor", before=0.0, after=1.0),
        make_check(2, severity="critical", before=1.0, after=0.0),
        make_check(3, severity="major", before=1.0, after=1.0),
    ]


def report_arguments() -> Row:
    """Everything that write_report takes beside figures and items."""
    funnel = [
        {"stage": "raw", "documents": 1663, "percent": 100.0},
        {"stage": "leaks", "documents": 1661, "percent": 99.9},
    ]
    expectations = {
        f"corpus.{number}": {"success": number > 0, "rows": 843, "failing": 0}
        for number in range(5)
    }
    curve = [(float(step), 3.2 - 0.02 * step) for step in range(1, 39)]
    return {
        "significance": 0.05,
        "funnel": {"corpus": funnel, "general_instructions": funnel[:1]},
        "curves": {"pre-training": {"loss": curve}, "fine-tuning": {"loss": curve}},
        "validation": {"expectations": expectations, "warnings": 1, "totals": {}},
        "data_docs": "data_docs/index.html",
        "lineage": {
            "commit": "6e3dcf5b5561350eebb9621a4498341fc5acf33a",
            "base weights, SHA-256": "d9df495ac8121f17",
        },
    }
