import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from lmadapt.verdict.exam_figures import ExamFigures
from lmadapt.verdict.figures import (
    AdapterScale,
    Alarm,
    Alarms,
    Attribution,
    Behaviour,
    BehaviourTest,
    BehaviourTests,
    CategoryChanges,
    CategoryStepChanges,
    Change,
    Changes,
    Divergence,
    DomainTest,
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
from lmadapt.verdict.judged import Judged
from lmadapt.verdict.remedies import ADVICE, TRY_SCALES
from lmadapt.verdict.remedies import remedies as all_remedies

JUDGED = Judged(
    reference="base",
    reference_version=None,
    reference_precision="bf16",
    reference_sha256="b" * 64,
    artifact="adapter",
    precision="nf4",
)
P_VALUES = {"mcnemar_p": 1.0, "better_p": 1.0, "worse_p": 1.0}


def change(difference: float, half: float = 0.01, n: int = 2000) -> Change:
    interval = (difference - half, difference + half)
    counts = {"n": n, "clusters": n, "lost": 0, "gained": 0}
    return Change(difference=difference, interval=interval, **counts, **P_VALUES)


def against(
    plain: Change,
    margin: float = 0.02,
    items_needed: int = 1500,
    *,
    worse_p_adjusted: float = 1.0,
    measurable: bool = True,
) -> MarginTest:
    return MarginTest(
        **plain.model_dump(),
        worse_p_adjusted=worse_p_adjusted,
        margin=margin,
        noninferiority_p=1.0,
        minimum_detectable_effect=0.01,
        items_needed=items_needed,
        measurable=measurable,
    )


def gain(difference: float, least: float = 0.0) -> DomainTest:
    plain = change(difference).model_dump()
    return DomainTest(**plain, worse_p_adjusted=1.0, min_gain=least, gain_p=1.0)


def step(name: Any, general: float = 0.0, capitals: float = 0.0) -> StepChange:
    return StepChange(
        step=name,
        before="adapted" if name == "merging" else "one",
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
    *,
    domain: float | DomainTest = 0.05,
    general: float | MarginTest = 0.0,
    capitals: MarginTest | None = None,
    **named: Any,
) -> Changes:
    capitals = capitals or against(change(0.0), 0.05)
    given = {
        "domain": domain if isinstance(domain, DomainTest) else gain(domain),
        "general": general if isinstance(general, MarginTest) else against(change(general)),
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
        "judged": JUDGED,
        "verdict": VerdictFigures(outcome="HOLD", reason="A reason.", remedy=[], evidence=[]),
        "changes": {
            "adapted_vs_reference": whole,
            "pretrained_vs_base": pretrained or whole,
            "adapted_vs_pretrained": fine_tuned or whole,
        },
        "behaviour": Behaviour(lost=[], gained=[]),
        "behaviour_tests": BehaviourTests(major=None, free_answers=None),
        "alarms": Alarms(bits_per_byte=None, kl=None),
        "attribution": Attribution(links=["one", "two"], steps=steps) if steps else None,
        "triage": None,
        "dial": None,
        "kl_to_reference": None,
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


def asked_again(spurious: float | None) -> SpuriousForgetting:
    form = Regained(
        regained=50,
        share=0.5,
        interval=(0.4, 0.6),
        kept=75,
        kept_share=0.75,
        difference=-0.25,
        difference_interval=(-0.35, -0.15),
    )
    return SpuriousForgetting(
        lost=100,
        asked=100,
        few_shot=form,
        bare=form,
        spurious=spurious,
        spurious_interval=(spurious - 0.1, spurious + 0.1) if spurious is not None else None,
        chance=0.25,
    )


def drift(pretrained: float, adapted: float) -> dict[str, Divergence]:
    return {
        name: Divergence(value=value, interval=(0.0, 1.0), tokens=100)
        for name, value in (("pretrained", pretrained), ("adapted", adapted))
    }


def remedies(found: EvaluationFigures) -> list[str]:
    return all_remedies(found, 0.05)


def test_a_model_that_ships_is_told_of_a_loss_within_its_margin() -> None:
    shipped = VerdictFigures(outcome="SHIP", reason="A reason.", remedy=[], evidence=[])
    for worse_p, count in ((0.04, 1), (0.06, 0)):
        shown = against(change(-0.005, 0.004), worse_p_adjusted=worse_p)
        found = remedies(figures(changes(general=shown), verdict=shipped))
        assert len(found) == count
        assert not found or found[0].startswith("general ability: lost most in ")


def test_unusable_answers_alarms_and_unmeasurable_categories_have_remedies() -> None:
    lost = BehaviourTest(
        n=9, shown_before=9, lost=["a"] * 9, gained=[], worse_p=0.002, worse_p_adjusted=0.016
    )
    alarm = Alarm(value=2.0, interval=(1.5, 2.5), margin=1.0, low_adjusted=1.4)
    found = remedies(
        figures(
            changes(capitals=against(change(0.0), 0.05, measurable=False)),
            behaviour_tests=BehaviourTests(major=None, free_answers=lost),
            alarms=Alarms(bits_per_byte=alarm, kl=alarm),
        )
    )
    starts = ["9 free answers became", "general text became harder", "the model moved far"]
    assert all(any(line.startswith(start) for line in found) for start in starts)
    assert found[-1].startswith("capitals: too close to guessing")


def test_a_gain_below_the_smallest_one_worth_shipping_asks_for_more_training() -> None:
    (advice,) = remedies(figures(changes(domain=gain(0.05, least=0.045))))
    assert advice.startswith("train longer on the domain")


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
    pair = {"adapted_vs_reference": changes(general=-0.05)}
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


def test_a_loss_is_not_called_spurious_where_the_reference_knows_the_items_in_no_other_form() -> (
    None
):
    lost, chain = changes(general=-0.05), steps(fine_tuning=-0.05)
    found = remedies(figures(lost, steps=chain, triage=asked_again(None)))
    assert any("lost most in fine-tuning" in line for line in found)


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
    assert remedies(figures(kl_to_reference=moved)) == []
    harder = changes(bits_per_byte=bits(-0.3, 0.05))
    found = remedies(figures(harder, pretrained=changes(), kl_to_reference=moved))
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
