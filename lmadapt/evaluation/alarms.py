"""What the verdict judges beside scores: held-out text, major behaviours, usable free answers."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from lmadapt.evaluation.answers import Answers
from lmadapt.evaluation.bits_per_byte import text_figures
from lmadapt.evaluation.degenerate_answers import is_degenerate
from lmadapt.evaluation.exam import Exam
from lmadapt.evaluation.settings import EvaluationSettings
from lmadapt.verdict import figures
from lmadapt.verdict.alarms import Alarm, BehaviourTest, behaviour_test
from lmadapt.verdict.comparison import QUESTIONS
from lmadapt.verdict.figures import Divergence

PAIR = ("reference", "adapted")


@dataclass(frozen=True)
class Beside:
    """The tests beside the scores; None where the exam cannot measure it."""

    bits_per_byte: Alarm | None
    kl: Alarm | None
    major: BehaviourTest | None
    free_answers: BehaviourTest | None

    @property
    def alarms(self) -> list[Alarm]:
        """Those that are measured."""
        return [alarm for alarm in (self.bits_per_byte, self.kl) if alarm]

    @property
    def behaviours(self) -> list[BehaviourTest]:
        """Those that the exam has."""
        return [test for test in (self.major, self.free_answers) if test]

    def alarm_figures(self) -> figures.Alarms:
        """As they are in metrics/evaluate.json."""
        return figures.Alarms(
            bits_per_byte=_alarm_figures(self.bits_per_byte), kl=_alarm_figures(self.kl)
        )

    def behaviour_figures(self) -> figures.BehaviourTests:
        """As they are in metrics/evaluate.json."""
        return figures.BehaviourTests(
            major=_behaviour_figures(self.major),
            free_answers=_behaviour_figures(self.free_answers),
        )


def judged_beside_scores(
    exam: Exam,
    answers: Mapping[str, Answers],
    divergences: Sequence[Divergence],
    settings: EvaluationSettings,
) -> Beside:
    """Compare "adapted" with "reference" in everything that the verdict judges beside scores.

    `divergences`: of the adapted model from the reference, with its interval at the level of
    `settings`, and again at the level of one question; none where it was not measured.
    """
    before, after = (answers[name] for name in PAIR)
    return Beside(
        bits_per_byte=_bits_per_byte(exam, answers, settings),
        kl=_divergence(divergences, settings),
        major=_major(exam, before, after),
        free_answers=_free_answers(exam, before, after),
    )


def level_of_a_question(settings: EvaluationSettings) -> float:
    """What each question of the verdict has of the level, so that they may all be asked."""
    return settings.significance / QUESTIONS


def _bits_per_byte(
    exam: Exam, answers: Mapping[str, Answers], settings: EvaluationSettings
) -> Alarm | None:
    """The rise of general bits per byte, as a share of the reference's."""
    pair = {name: answers[name] for name in PAIR}
    strict = replace(settings, significance=level_of_a_question(settings))
    plain, adjusted = (text_figures(exam, pair, [PAIR], each) for each in (settings, strict))
    reference = plain.models["reference"].general.value
    change, wide = plain.changes[PAIR].general, adjusted.changes[PAIR].general
    if not reference or change.difference is None or not change.interval or not wide.interval:
        return None
    low, high = change.interval
    return Alarm(
        name="bits per byte of general text rose by",
        unit="%",
        is_loss=True,
        value=change.difference / reference,
        interval=(low / reference, high / reference),
        margin=settings.bits_per_byte_margin,
        low_adjusted=wide.interval[0] / reference,
    )


def _divergence(divergences: Sequence[Divergence], settings: EvaluationSettings) -> Alarm | None:
    if not divergences:
        return None
    plain, wide = divergences
    return Alarm(
        name="the divergence from the reference is",
        unit="bits per token",
        is_loss=False,
        value=plain.value,
        interval=plain.interval,
        margin=settings.kl_margin,
        low_adjusted=wide.interval[0],
    )


def _major(exam: Exam, before: Answers, after: Answers) -> BehaviourTest | None:
    places = [place for place, item in enumerate(exam.items) if item["severity"] == "major"]
    passed = [model.scores[places] == 1 for model in (before, after)]
    return _test("major behaviours", exam, places, *passed)


def _free_answers(exam: Exam, before: Answers, after: Answers) -> BehaviourTest | None:
    places = [place for place, item in enumerate(exam.items) if item["check"]]
    usable = [
        np.array([not is_degenerate(model.responses[place]) for place in places], bool)
        for model in (before, after)
    ]
    return _test("usable free answers (neither empty nor looping)", exam, places, *usable)


def _test(
    name: str, exam: Exam, places: Sequence[int], before: np.ndarray, after: np.ndarray
) -> BehaviourTest | None:
    if not places:
        return None
    return behaviour_test(name, [exam.items[place]["id"] for place in places], before, after)


def _alarm_figures(alarm: Alarm | None) -> figures.Alarm | None:
    if alarm is None:
        return None
    return figures.Alarm(
        value=alarm.value,
        interval=alarm.interval,
        margin=alarm.margin,
        low_adjusted=alarm.low_adjusted,
    )


def _behaviour_figures(test: BehaviourTest | None) -> figures.BehaviourTest | None:
    if test is None:
        return None
    return figures.BehaviourTest(
        n=test.n,
        shown_before=test.shown_before,
        lost=test.lost,
        gained=test.gained,
        worse_p=test.worse_p,
        worse_p_adjusted=test.worse_p_adjusted,
    )
