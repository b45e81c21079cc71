"""Asks every model of a comparison everything, and loads each of them once."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from lmadapt.evaluation.answers import Answers, answer_exam
from lmadapt.evaluation.divergence import divergence, let_reference_write, text_nats
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
    kl_to_reference: dict[str, Divergence] | None  # None where it cannot be measured
    asked_again: AskedAgain  # the items that "adapted" lost


def measure(
    variants: Mapping[str, ModelVariant],
    exam: Exam,
    tokenizer: Any,
    settings: EvaluationSettings,
) -> Measured:
    """Ask each of the variants, of which "reference" is the first and "adapted" the last.

    A variant that has two names is asked once. `tokenizer` is the one with which the exam is
    encoded. A variant with another tokenizer answers in its own tokens; where it is not that of the
    reference either, the divergence from the reference cannot be measured.
    Raises UserError as `answer_exam` and `answer_tasks` do.
    """
    answers: dict[str, Answers] = {}
    nats, tasks = {}, {}
    asked_again = AskedAgain(None, {})
    names = _first_names(variants)
    for name, variant in variants.items():
        if name not in {names[variant], "adapted"}:
            continue  # "adapted" is asked in any case, for what it lost; kept answers cost nothing
        own = load_tokenizer(variant.folder)
        its_exam = exam if _encode_alike(own, tokenizer) else exam.encoded_by(own)
        with open_variant(variant, settings.answer_file) as model:
            if name == "reference":
                writer, text = own, let_reference_write(model, its_exam, seed=settings.seed)
            answers[name] = answer_exam(
                model,
                own,
                its_exam,
                name=name,
                batch_tokens=settings.batch_tokens,
                max_new_tokens=settings.max_new_tokens,
            )
            if _encode_alike(own, writer):
                nats[names[variant]] = text_nats(model, text, batch_tokens=settings.batch_tokens)
            if settings.lm_eval_tasks:
                tasks[name] = answer_tasks(model, own, settings.lm_eval_tasks)
            if name == "adapted":
                asked_again = ask_lost_items_again(
                    model,
                    own,
                    its_exam,
                    before=answers["reference"],
                    after=answers[name],
                    settings=settings,
                )
    kl = None
    if len(nats) == len(names):
        nats = {name: nats[names[variant]] for name, variant in variants.items()}
        kl = divergence(text, nats, significance=settings.significance, seed=settings.seed)
    if tasks:
        exam, answers = add_tasks(exam, answers, tasks)
    answers = {name: answers[names[variant]] for name, variant in variants.items()}
    return Measured(variants, exam, answers, kl, asked_again)


def _first_names(variants: Mapping[str, ModelVariant]) -> dict[ModelVariant, str]:
    """Each different variant with the first of its names, in their order."""
    names: dict[ModelVariant, str] = {}
    for name, variant in variants.items():
        names.setdefault(variant, name)
    return names


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
            "before": _answer(measured.answers["reference"], place),
            "after": _answer(measured.answers["adapted"], place),
            "notes": notes,
        }


def _answer(answers: Answers, place: int) -> dict[str, Any]:
    return {"response": answers.responses[place], "score": float(answers.scores[place])}


def _encode_alike(one: Any, other: Any) -> bool:
    return bool(one.chat_template == other.chat_template and one.get_vocab() == other.get_vocab())
