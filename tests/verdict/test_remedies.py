import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from lmadapt.verdict.exam_figures import ExamFigures
from lmadapt.verdict.figures import (
    AdapterScale,
    Attribution,
    Behaviour,
    CategoryChanges,
    CategoryStepChanges,
    Change,
    Changes,
    Divergence,
    DomainChange,
    EvaluationFigures,
    MarginTest,
    Regained,
    ScaleChange,
    SpuriousForgetting,
    StepChange,
    TextChange,
    TextChangeByGroup,
    VerdictFigures,
)
from lmadapt.verdict.remedies import ADVICE, TRY_SCALES, remedies

P_VALUES = {"mcnemar_p": 1.0, "better_p": 1.0, "worse_p": 1.0}


def change(difference: float, half: float = 0.01, n: int = 2000) -> Change:
    interval = (difference - half, difference + half)
    counts = {"n": n, "clusters": n, "lost": 0, "gained": 0}
    return Change(difference=difference, interval=interval, **counts, **P_VALUES)


def against(plain: Change, margin: float = 0.02, items_needed: int = 1500) -> MarginTest:
    return MarginTest(
        **plain.model_dump(),
        worse_p_adjusted=1.0,
        margin=margin,
        noninferiority_p=1.0,
        minimum_detectable_effect=0.01,
        items_needed=items_needed,
    )


def step(name: Any, general: float = 0.0, capitals: float = 0.0) -> StepChange:
    return StepChange(
        step=name,
        before="one",
        after="two",
        domain=change(0.0),
        general=change(general),
        categories=CategoryStepChanges(domain={}, general={"capitals": change(capitals)}),
    )


def steps(**general: float) -> list[StepChange]:
    names = ("pre-training", "quantisation", "fine-tuning", "merging")
    return [step(name, general.get(name.replace("-", "_"), 0.0)) for name in names]


def text(difference: float | None) -> TextChange:
    interval = None if difference is None else (difference - 0.01, difference + 0.01)
    return TextChange(difference=difference, interval=interval, bytes=1000, documents=10)


def bits(domain: float | None, general: float | None) -> TextChangeByGroup:
    return TextChangeByGroup(domain=text(domain), general=text(general))


def changes(
    *, domain: float = 0.05, general: float = 0.0, capitals: MarginTest | None = None, **named: Any
) -> Changes:
    capitals = capitals or against(change(0.0), 0.05)
    given = {
        "domain": DomainChange(**change(domain).model_dump(), worse_p_adjusted=1.0),
        "general": against(change(general)),
        "categories": CategoryChanges(domain={}, general={"capitals": capitals}),
        "bits_per_byte": bits(-0.3, 0.0),
    }
    return Changes(**(given | named))


EXAM: dict[str, Any] = {
    "sha256": "e" * 64,
    "level": 0.05,
    "candidates": 1,
    "looks": 1,
    "planned_items": None,
    "items": 800,
    "sealed_items": 0,
}


def figures(
    whole: Changes | None = None,
    *,
    pretrained: Changes | None = None,
    fine_tuned: Changes | None = None,
    steps: list[StepChange] | None = None,
    **named: Any,
) -> EvaluationFigures:
    """Figures of a model that is not shipped and has no other fault."""
    whole = whole or changes()
    given: dict[str, Any] = {
        "verdict": VerdictFigures(outcome="HOLD", reason="A reason.", remedy=[], evidence=[]),
        "changes": {
            "adapted_vs_base": whole,
            "pretrained_vs_base": pretrained or whole,
            "adapted_vs_pretrained": fine_tuned or whole,
        },
        "behaviour": Behaviour(lost=[], gained=[]),
        "attribution": Attribution(links=["one", "two"], steps=steps) if steps else None,
        "triage": None,
        "dial": None,
        "kl_to_base": None,
        "exam": ExamFigures.model_validate(EXAM),
    }
    return EvaluationFigures.model_construct(**(given | named))


def sweep(*rows: tuple[float, float, float]) -> AdapterScale:
    return AdapterScale(
        rows=[
            ScaleChange(alpha_scale=scale, domain=change(domain), general=change(general))
            for scale, domain, general in rows
        ],
        chosen=1.0,
        development_items=100,
        sealed_items=100,
    )


def asked_again(spurious: float) -> SpuriousForgetting:
    form = Regained(regained=50, share=0.5, interval=(0.4, 0.6))
    return SpuriousForgetting(
        lost=100, asked=100, few_shot=form, bare=form, spurious=spurious, chance=0.25
    )


def drift(pretrained: float, adapted: float) -> dict[str, Divergence]:
    return {
        name: Divergence(value=value, interval=(0.0, 1.0), tokens=100)
        for name, value in (("pretrained", pretrained), ("adapted", adapted))
    }


def test_a_model_that_ships_needs_no_remedy() -> None:
    shipped = VerdictFigures(outcome="SHIP", reason="A reason.", remedy=[], evidence=[])
    assert remedies(figures(changes(general=-0.2), verdict=shipped)) == []


def test_a_model_without_a_fault_gets_no_remedy() -> None:
    assert remedies(figures()) == []


def test_a_loss_in_fine_tuning_asks_for_more_replay_and_gentler_training() -> None:
    lost, chain = changes(general=-0.05), steps(pre_training=-0.01, fine_tuning=-0.05)
    advice, scale_advice = remedies(figures(lost, steps=chain))
    assert advice.startswith("general ability: lost most in fine-tuning; raise sft.replay_fraction")
    for setting in ("sft.learning_rate", "sft.target_modules: retain"):
        assert setting in advice
    assert scale_advice == TRY_SCALES
    assert remedies(figures(lost, steps=chain, dial=sweep((1.0, 0.1, 0.0)))) == [advice]


def test_a_loss_in_pre_training_is_told_from_one_in_fine_tuning() -> None:
    chain = steps(pre_training=-0.06, fine_tuning=0.01)
    (advice,) = remedies(figures(changes(general=-0.05), steps=chain))
    assert "lost most in pre-training; raise pretrain.replay_fraction" in advice


def test_each_category_is_attributed_to_the_step_in_which_it_fell_most() -> None:
    chain = [step("pre-training", -0.05, 0.0), step("fine-tuning", 0.0, -0.12)]
    lost = changes(general=-0.05, capitals=against(change(-0.12), 0.05))
    found = remedies(figures(lost, steps=chain))
    assert [line.split(";")[0] for line in found] == [
        "general ability: lost most in pre-training",
        "capitals: lost most in fine-tuning",
        TRY_SCALES,
    ]


def test_the_stages_are_compared_without_attribution() -> None:
    found = remedies(figures(changes(general=-0.05), pretrained=changes()))
    assert "lost most in fine-tuning" in found[0]


def test_advice_for_two_models_outside_the_pipeline_names_no_stage() -> None:
    pair = {"adapted_vs_base": changes(general=-0.05)}
    advice = f"general ability: lost most in training; {ADVICE['training']}"
    assert remedies(figures(changes=pair)) == [advice]


@pytest.mark.parametrize("damaged", ["quantisation", "merging"])
def test_damage_by_quantisation_or_merging_is_named_even_if_training_lost_nothing(
    damaged: str,
) -> None:
    (advice,) = remedies(figures(steps=steps(**{damaged: -0.04})))
    assert advice == f"general ability: lost most in {damaged}; {ADVICE[damaged]}"


def test_small_damage_by_quantisation_is_accepted() -> None:
    assert remedies(figures(steps=steps(quantisation=-0.009))) == []


@pytest.mark.parametrize(("share", "spurious"), [(0.49, False), (0.5, True)])
def test_a_loss_is_spurious_if_asking_again_regains_half_of_it(
    share: float, spurious: bool
) -> None:
    lost, chain = changes(general=-0.05), steps(fine_tuning=-0.05)
    found = remedies(figures(lost, steps=chain, triage=asked_again(share)))
    assert ("50% of the lost items" in found[0] and "knowledge is kept" in found[0]) is spurious
    assert any("lost most in fine-tuning" in line for line in found) is not spurious


def test_a_spurious_loss_does_not_excuse_pre_training() -> None:
    lost, chain = changes(general=-0.05), steps(pre_training=-0.05)
    spurious, true_loss = remedies(figures(lost, steps=chain, triage=asked_again(0.9)))
    assert "knowledge is kept" in spurious
    assert "lost most in pre-training" in true_loss


@pytest.mark.parametrize(
    ("domain", "general", "found"), [(0.0, 0.05, 1), (-0.05, 0.05, 0), (0.0, 0.0, 0)]
)
def test_pre_training_that_memorises_is_recognised_by_held_out_text(
    domain: float, general: float, found: int
) -> None:
    pretrained = changes(bits_per_byte=bits(domain, general))
    lines = remedies(figures(pretrained=pretrained))
    assert sum("pretrain.max_tokens" in line for line in lines) == found


@pytest.mark.parametrize(("early", "step"), [(0.1, "pre-training"), (0.09, "fine-tuning")])
def test_harder_general_text_is_attributed_to_the_step_with_most_drift(
    early: float, step: str
) -> None:
    moved = drift(early, 0.2)
    assert remedies(figures(kl_to_base=moved)) == []
    harder = changes(bits_per_byte=bits(-0.3, 0.05))
    found = remedies(figures(harder, pretrained=changes(), kl_to_base=moved))
    (advice,) = [line for line in found if "drift" in line]
    assert advice.endswith(f"came in {step}: {ADVICE[step]}")


def test_text_that_was_not_measured_gives_no_remedy() -> None:
    assert remedies(figures(pretrained=changes(bits_per_byte=bits(None, None)))) == []


@pytest.mark.parametrize(
    ("half_gain", "general", "found"),
    [(0.095, -0.03, 1), (0.08, -0.03, 0), (0.095, 0.0, 0), (-0.01, -0.03, 0)],
)
def test_a_gain_that_a_weaker_adapter_also_gives_means_over_training(
    half_gain: float, general: float, found: int
) -> None:
    scales = sweep((1.0, 0.1, general), (0.5, half_gain, 0.0), (0.25, 0.02, 0.0))
    lines = [line for line in remedies(figures(dial=scales)) if "sft.max_tokens" in line]
    assert len(lines) == found
    assert all("scale 0.5" in line for line in lines)


def test_an_adapter_without_a_gain_is_not_over_trained() -> None:
    assert remedies(figures(dial=sweep((0.5, 0.0, 0.0), (1.0, 0.0, -0.03)))) == []


def test_categories_with_too_few_items_are_named_with_the_number_needed() -> None:
    few = against(change(-0.01, 0.06, n=280), 0.05, items_needed=640)
    assert remedies(figures(changes(capitals=few), pretrained=changes())) == [
        "ask a new, larger exam once; to add to this one, plan the looks (evaluate.looks): "
        "capitals (280 of about 640)"
    ]
    planned = ExamFigures.model_validate(EXAM | {"looks": 3, "planned_items": 900})
    (line,) = remedies(figures(changes(capitals=few), pretrained=changes(), exam=planned))
    assert line.startswith("add evaluation items, as evaluate.looks allows: capitals")


def test_enough_items_that_do_not_show_the_margin_count_as_a_loss() -> None:
    chain = [step("pre-training"), step("fine-tuning", capitals=-0.03)]
    enough = against(change(-0.03, 0.04, n=700), 0.05, items_needed=640)
    advice, _ = remedies(figures(changes(capitals=enough), pretrained=changes(), steps=chain))
    assert advice.startswith("capitals: lost most in fine-tuning")


@pytest.mark.parametrize(
    ("domain", "words"), [(0.0, "train longer"), (-0.05, "the domain became worse")]
)
def test_a_domain_that_is_not_better_gets_a_remedy(domain: float, words: str) -> None:
    (advice,) = remedies(figures(changes(domain=domain)))
    assert words in advice


def test_lost_behaviour_is_named() -> None:
    lost = Behaviour(lost=["refuses/3", "json/1"], gained=[])
    (advice,) = remedies(figures(behaviour=lost))
    assert advice.startswith("refuses/3, json/1: lost")


def test_every_setting_that_a_remedy_names_exists() -> None:
    source = Path("lmadapt/verdict/remedies.py").read_text(encoding="utf-8")
    recipe = yaml.safe_load(Path("params.yaml").read_text(encoding="utf-8"))
    named = re.findall(r"\b(pretrain|sft|evaluate)\.(\w+)", source)
    assert len(named) > 8
    for section, key in named:
        assert key in recipe[section], f"{section}.{key}"
