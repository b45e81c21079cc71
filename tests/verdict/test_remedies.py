import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from lmadapt.verdict.remedies import ADVICE, DIAL, remedies

Figures = dict[str, Any]


def change(difference: float, half: float = 0.01, n: int = 2000) -> Figures:
    return {"difference": difference, "interval": [difference - half, difference + half], "n": n}


def against(entry: Figures, margin: float = 0.02, items_needed: int = 1500) -> Figures:
    return entry | {"margin": margin, "items_needed": items_needed}


def step(name: str, general: float = 0.0, capitals: float = 0.0) -> Figures:
    return {
        "step": name,
        "domain": change(0.0),
        "general": change(general),
        "categories": {"domain": {}, "general": {"capitals": change(capitals)}},
    }


def bits(domain: float, general: float) -> Figures:
    return {
        group: {"difference": value, "interval": [value - 0.01, value + 0.01]}
        for group, value in (("domain", domain), ("general", general))
    }


def figures(
    *,
    domain: float = 0.05,
    general: float = 0.0,
    capitals: float = 0.0,
    steps: list[Figures] | None = None,
) -> Figures:
    """Those of a model that is not shipped, with nothing else to say against it."""
    whole = {
        "domain": change(domain),
        "general": against(change(general)),
        "categories": {"domain": {}, "general": {"capitals": against(change(capitals), 0.05)}},
        "bits_per_byte": bits(-0.3, 0.0),
    }
    return {
        "verdict": {"outcome": "HOLD"},
        "changes": {
            "adapted_vs_base": whole,
            "pretrained_vs_base": whole,
            "adapted_vs_pretrained": whole,
        },
        "behaviour": {"lost": []},
        "attribution": {"steps": steps} if steps else None,
        "triage": None,
        "dial": None,
        "kl_to_base": None,
    }


def steps(**general: float) -> list[Figures]:
    names = ("pre-training", "quantisation", "fine-tuning", "merging")
    return [step(name, general.get(name.replace("-", "_"), 0.0)) for name in names]


def test_a_model_that_ships_needs_no_remedy() -> None:
    assert remedies(figures(general=-0.2) | {"verdict": {"outcome": "SHIP"}}) == []


def test_nothing_against_a_model_gives_no_remedy() -> None:
    assert remedies(figures()) == []


def test_a_loss_in_fine_tuning_asks_for_more_replay_and_a_gentler_training() -> None:
    given = figures(general=-0.05, steps=steps(pre_training=-0.01, fine_tuning=-0.05))
    advice, dial_advice = remedies(given)
    assert advice.startswith("general ability: lost most in fine-tuning; raise sft.replay_fraction")
    for setting in ("sft.learning_rate", "sft.target_modules: retain"):
        assert setting in advice
    assert "evaluate.alpha_scale: auto" in dial_advice
    assert remedies(given | {"dial": dial((1.0, 0.1, 0.0))}) == [advice]


def test_a_loss_in_pre_training_is_told_from_one_in_fine_tuning() -> None:
    (advice,) = remedies(figures(general=-0.05, steps=steps(pre_training=-0.06, fine_tuning=0.01)))
    assert "lost most in pre-training; raise pretrain.replay_fraction" in advice


def test_categories_are_put_down_to_the_step_at_which_each_fell() -> None:
    chain = [step("pre-training", -0.05, 0.0), step("fine-tuning", 0.0, -0.12)]
    found = remedies(figures(general=-0.05, capitals=-0.12, steps=chain))
    assert [line.split(";")[0] for line in found] == [
        "general ability: lost most in pre-training",
        "capitals: lost most in fine-tuning",
        DIAL,
    ]


def test_without_attribution_the_stages_are_compared() -> None:
    given = figures(general=-0.05)
    given["changes"]["pretrained_vs_base"] = figures()["changes"]["adapted_vs_base"]
    assert "lost most in fine-tuning" in remedies(given)[0]


def test_two_models_outside_of_the_pipeline_get_advice_that_names_no_stage() -> None:
    given = figures(general=-0.05)
    given["changes"] = {"adapted_vs_base": given["changes"]["adapted_vs_base"]}
    assert remedies(given) == [f"general ability: lost most in training; {ADVICE['training']}"]


@pytest.mark.parametrize("damaged", ["quantisation", "merging"])
def test_damage_by_quantisation_or_merging_is_named_even_if_training_lost_nothing(
    damaged: str,
) -> None:
    (advice,) = remedies(figures(steps=steps(**{damaged: -0.04})))
    assert advice == f"general ability: lost most in {damaged}; {ADVICE[damaged]}"


def test_small_damage_by_quantisation_is_let_pass() -> None:
    assert remedies(figures(steps=steps(quantisation=-0.009))) == []


@pytest.mark.parametrize(("share", "spurious"), [(0.49, False), (0.5, True)])
def test_a_loss_of_which_half_comes_back_in_another_form_is_called_spurious(
    share: float, spurious: bool
) -> None:
    given = figures(general=-0.05, steps=steps(fine_tuning=-0.05)) | {"triage": {"spurious": share}}
    found = remedies(given)
    assert ("50% of the lost items" in found[0] and "knowledge is kept" in found[0]) is spurious
    assert any("lost most in fine-tuning" in line for line in found) is not spurious


def test_a_spurious_loss_does_not_excuse_pre_training() -> None:
    given = figures(general=-0.05, steps=steps(pre_training=-0.05)) | {"triage": {"spurious": 0.9}}
    spurious, true_loss = remedies(given)
    assert "knowledge is kept" in spurious
    assert "lost most in pre-training" in true_loss


@pytest.mark.parametrize(
    ("domain", "general", "found"), [(0.0, 0.05, 1), (-0.05, 0.05, 0), (0.0, 0.0, 0)]
)
def test_pre_training_that_learns_by_heart_is_told_by_held_out_text(
    domain: float, general: float, found: int
) -> None:
    given = figures()
    given["changes"]["pretrained_vs_base"] = given["changes"]["pretrained_vs_base"] | {
        "bits_per_byte": bits(domain, general)
    }
    assert sum("pretrain.max_tokens" in line for line in remedies(given)) == found


@pytest.mark.parametrize(("early", "step"), [(0.1, "pre-training"), (0.09, "fine-tuning")])
def test_general_text_that_became_harder_is_put_down_to_the_step_of_most_drift(
    early: float, step: str
) -> None:
    given = figures() | {"kl_to_base": {"pretrained": {"value": early}, "adapted": {"value": 0.2}}}
    assert remedies(given) == []
    given["changes"]["adapted_vs_base"]["bits_per_byte"] = bits(-0.3, 0.05)
    (advice,) = [line for line in remedies(given) if "drift" in line]
    assert advice.endswith(f"came in {step}: {ADVICE[step]}")


def test_text_that_was_not_measured_says_nothing() -> None:
    given = figures()
    nothing = {group: {"difference": None, "interval": None} for group in ("domain", "general")}
    given["changes"]["pretrained_vs_base"] = given["changes"]["pretrained_vs_base"] | {
        "bits_per_byte": nothing
    }
    assert remedies(given) == []


def dial(*rows: tuple[float, float, float]) -> Figures:
    return {
        "rows": [
            {"alpha_scale": scale, "domain": change(domain), "general": change(general)}
            for scale, domain, general in rows
        ]
    }


@pytest.mark.parametrize(
    ("half_gain", "general", "found"),
    [(0.095, -0.03, 1), (0.08, -0.03, 0), (0.095, 0.0, 0), (-0.01, -0.03, 0)],
)
def test_a_gain_that_a_weaker_adapter_gives_too_means_over_training(
    half_gain: float, general: float, found: int
) -> None:
    given = figures() | {
        "dial": dial((1.0, 0.1, general), (0.5, half_gain, 0.0), (0.25, 0.02, 0.0))
    }
    lines = [line for line in remedies(given) if "sft.max_tokens" in line]
    assert len(lines) == found
    assert all("scale 0.5" in line for line in lines)


def test_an_adapter_that_gains_nothing_is_not_called_saturated() -> None:
    given = figures() | {"dial": dial((0.5, 0.0, 0.0), (1.0, 0.0, -0.03))}
    assert remedies(given) == []


def test_categories_with_too_few_items_are_named_with_the_number_needed() -> None:
    given = figures()
    few = against(change(-0.01, 0.06, n=280), 0.05, items_needed=640)
    given["changes"]["adapted_vs_base"]["categories"]["general"]["capitals"] = few
    assert remedies(given) == [
        "add evaluation items or accept wider margins: capitals (280 of about 640)"
    ]


def test_enough_items_that_do_not_show_the_margin_speak_of_a_loss() -> None:
    given = figures(steps=[step("pre-training"), step("fine-tuning", capitals=-0.03)])
    enough = against(change(-0.03, 0.04, n=700), 0.05, items_needed=640)
    given["changes"]["adapted_vs_base"]["categories"]["general"]["capitals"] = enough
    advice, _ = remedies(given)
    assert advice.startswith("capitals: lost most in fine-tuning")


@pytest.mark.parametrize(
    ("domain", "word"), [(0.0, "train longer"), (-0.05, "the domain became worse")]
)
def test_a_domain_that_is_not_better_is_addressed(domain: float, word: str) -> None:
    (advice,) = remedies(figures(domain=domain))
    assert word in advice


def test_lost_behaviour_is_named() -> None:
    (advice,) = remedies(figures() | {"behaviour": {"lost": ["refuses/3", "json/1"]}})
    assert advice.startswith("refuses/3, json/1: lost")


def test_every_setting_that_is_named_exists() -> None:
    source = Path("lmadapt/verdict/remedies.py").read_text(encoding="utf-8")
    recipe = yaml.safe_load(Path("params.yaml").read_text(encoding="utf-8"))
    named = re.findall(r"\b(pretrain|sft|evaluate)\.(\w+)", source)
    assert len(named) > 8
    for section, key in named:
        if (section, key) != ("evaluate", "json"):
            assert key in recipe[section], f"{section}.{key}"
