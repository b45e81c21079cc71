from types import SimpleNamespace
from typing import Any

from lmadapt.evaluation.adapter_scale import best_scale, split_halves
from lmadapt.evaluation.exam import Exam


def compared(domain: float, general: float, *, kept: bool) -> Any:
    return SimpleNamespace(
        domain=SimpleNamespace(difference=domain),
        general=SimpleNamespace(
            change=SimpleNamespace(difference=general), acceptable=lambda significance: kept
        ),
    )


def test_the_best_scale_gains_most_among_those_that_keep_general_ability() -> None:
    scales = {
        0.25: compared(0.1, 0.0, kept=True),
        0.5: compared(0.2, 0.0, kept=True),
        1.0: compared(0.3, -0.1, kept=False),
    }
    assert best_scale(scales, 0.05) == 0.5


def test_if_no_scale_keeps_general_ability_the_one_with_the_smallest_loss_is_best() -> None:
    scales = {
        0.25: compared(0.1, -0.05, kept=False),
        0.5: compared(0.2, -0.04, kept=False),
        1.0: compared(0.3, -0.1, kept=False),
    }
    assert best_scale(scales, 0.05) == 0.5


def exam_of(ids: str = "") -> Exam:
    groups = ["domain"] * 20 + ["general"] * 20 + ["behaviour"] * 3
    items: list[Any] = [
        {
            "id": f"{ids}{n:02}",
            "group": group,
            "category": group,
            "cluster": f"{group} {n // 2}",
            "prompt": f"Question {n}?",
            "choices": [],
            "answer": None,
            "check": "",
        }
        for n, group in enumerate(groups)
    ]
    return Exam(items, [None] * len(items), [{"id": "text"}], [[]])  # type: ignore[list-item]


def test_halves_keep_clusters_together_and_unscored_items_sealed() -> None:
    exam = exam_of()
    development, sealed = split_halves(exam)
    assert len(development.items) == 20
    assert len(sealed.items) == 23
    assert not {i["cluster"] for i in development.items} & {i["cluster"] for i in sealed.items}
    assert (development.documents, sealed.documents) == ([], [{"id": "text"}])
    assert sealed.items[-3:] == exam.items[-3:]


def test_what_the_items_ask_decides_the_halves_and_not_their_ids() -> None:
    asked = [
        {item["prompt"] for item in split_halves(exam_of(ids))[0].items} for ids in ("", "new ")
    ]
    assert asked[0] == asked[1]
