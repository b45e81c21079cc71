"""Asks every model of a comparison everything, and loads each of them once."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from lmadapt.evaluation.answers import Answers, answer_exam
from lmadapt.evaluation.divergence import divergence, let_base_write, text_nats
from lmadapt.evaluation.exam import Exam
from lmadapt.evaluation.lm_eval_tasks import add_tasks, answer_tasks
from lmadapt.evaluation.settings import EvaluationSettings
from lmadapt.evaluation.spurious_forgetting import AskedAgain, ask_lost_items_again
from lmadapt.evaluation.variants import ModelVariant, open_variant
from lmadapt.models.loading import load_tokenizer
from lmadapt.verdict.figures import Divergence

FORMS = {"few_shot": "after solved examples", "bare": "as plain text"}


@dataclass(frozen=True)
class Measured:
    """The exam, what each model answered, and what was asked beyond it."""

    variants: Mapping[str, ModelVariant]
    exam: Exam
    answers: dict[str, Answers]  # by the name of the variant
    kl_to_base: dict[str, Divergence] | None  # None where it cannot be measured
    asked_again: AskedAgain  # the items that "adapted" lost


def measure(
    variants: Mapping[str, ModelVariant],
    exam: Exam,
    tokenizer: Any,
    settings: EvaluationSettings,
) -> Measured:
    """Ask each of the variants, of which "base" is the first and "adapted" the last.

    `tokenizer` is the base's, with which the exam is encoded. A variant with another tokenizer
    answers in its own tokens, and then the divergence from the base cannot be measured.
    Raises UserError as `answer_exam` and `answer_tasks` do.
    """
    answers: dict[str, Answers] = {}
    nats, tasks = {}, {}
    asked_again = AskedAgain(None, {})
    for name, variant in variants.items():
        own = load_tokenizer(variant.folder)
        same = _encode_alike(own, tokenizer)
        its_exam = exam if same else exam.encoded_by(own)
        with open_variant(variant, settings.answer_file) as model:
            if name == "base":
                text = let_base_write(model, exam, seed=settings.seed)
            answers[name] = answer_exam(
                model,
                own,
                its_exam,
                name=name,
                batch_tokens=settings.batch_tokens,
                max_new_tokens=settings.max_new_tokens,
            )
            if same:
                nats[name] = text_nats(model, text, batch_tokens=settings.batch_tokens)
            if settings.lm_eval_tasks:
                tasks[name] = answer_tasks(model, own, settings.lm_eval_tasks)
            if name == "adapted":
                asked_again = ask_lost_items_again(
                    model,
                    own,
                    its_exam,
                    before=answers["base"],
                    after=answers[name],
                    settings=settings,
                )
    kl_to_base = None
    if len(nats) == len(variants):
        kl_to_base = divergence(text, nats, significance=settings.significance)
    if tasks:
        exam, answers = add_tasks(exam, answers, tasks)
    return Measured(variants, exam, answers, kl_to_base, asked_again)


def item_rows(measured: Measured, lost_in: Mapping[str, str]) -> Iterator[dict[str, Any]]:
    """Every item for the report: both answers side by side, and notes.

    `lost_in`: by id of an item, the step at which it was lost. The notes name that step and the
    forms in which the item is right again.
    """
    regained = measured.asked_again.regained
    for place, item in enumerate(measured.exam.items):
        notes = [f"lost in {lost_in[item['id']]}"] if item["id"] in lost_in else []
        notes += [f"right again {FORMS[form]}" for form in regained.get(item["id"], ())]
        yield {
            **item,
            "before": _answer(measured.answers["base"], place),
            "after": _answer(measured.answers["adapted"], place),
            "notes": notes,
        }


def _answer(answers: Answers, place: int) -> dict[str, Any]:
    return {"response": answers.responses[place], "score": float(answers.scores[place])}


def _encode_alike(one: Any, other: Any) -> bool:
    return bool(one.chat_template == other.chat_template and one.get_vocab() == other.get_vocab())
