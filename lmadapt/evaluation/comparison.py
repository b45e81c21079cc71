"""Asks every model of a comparison everything.

Each model is loaded once; the reference once more when the adapted model has lost items.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lmadapt.evaluation.alarms import level_of_a_question
from lmadapt.evaluation.answers import Answers, answer_exam
from lmadapt.evaluation.confident_losses import lost_confidently
from lmadapt.evaluation.divergence import divergence, let_reference_write, text_nats
from lmadapt.evaluation.exam import Exam, Item
from lmadapt.evaluation.lm_eval_tasks import add_tasks, answer_tasks
from lmadapt.evaluation.settings import EvaluationSettings
from lmadapt.evaluation.spurious_forgetting import (
    AskedAgain,
    LostItems,
    ask_again,
    compare_forms,
    lost_items,
)
from lmadapt.evaluation.variants import ModelVariant, open_variant
from lmadapt.models.loading import load_tokenizer
from lmadapt.verdict.figures import Divergence
from lmadapt.verdict.statistics import Array

REFERENCE = "reference"  # the model that the adapted one is compared with
FORMS = {"few_shot": "after solved examples", "bare": "as plain text"}


@dataclass(frozen=True)
class Measured:
    """The exam, what each model answered, and what was asked beyond it."""

    variants: Mapping[str, ModelVariant]
    exam: Exam
    answers: dict[str, Answers]  # by the name of the variant
    kl_to_reference: dict[str, Divergence] | None  # None where it cannot be measured
    asked_again: AskedAgain  # the items that "adapted" lost
    # Of "adapted": at the level of the settings, and at that of one question; or none.
    divergences: Sequence[Divergence] = ()


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
    names = _first_names(variants)
    for name, variant in variants.items():
        if name not in {names[variant], "adapted"}:
            continue  # "adapted" is asked in any case, for what it lost; kept answers cost nothing
        own = load_tokenizer(variant.folder)
        its_exam = exam if _encode_alike(own, tokenizer) else exam.encoded_by(own)
        with open_variant(variant, settings.answer_file) as model:
            if name == REFERENCE:
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
                lost = lost_items(its_exam, answers[REFERENCE], answers[name], settings.seed)
                regained = ask_again(model, own, its_exam, lost, settings.batch_tokens)
    kept = _ask_reference_again(variants[REFERENCE], exam, tokenizer, lost, settings)
    asked_again = compare_forms(exam, lost, kept, regained, settings)
    kl_to_reference, divergences = None, []
    if len(nats) == len(names):
        nats = {name: nats[names[variant]] for name, variant in variants.items()}
        for level in (settings.significance, level_of_a_question(settings)):
            found = divergence(text, nats, significance=level)
            kl_to_reference = kl_to_reference or found
            divergences += [found["adapted"]] if found else []
    if tasks:
        exam, answers = add_tasks(exam, answers, tasks)
    answers = {name: answers[names[variant]] for name, variant in variants.items()}
    return Measured(variants, exam, answers, kl_to_reference, asked_again, divergences)


def _first_names(variants: Mapping[str, ModelVariant]) -> dict[ModelVariant, str]:
    """Each different variant with the first of its names, in their order."""
    names: dict[ModelVariant, str] = {}
    for name, variant in variants.items():
        names.setdefault(variant, name)
    return names


def _ask_reference_again(
    variant: ModelVariant,
    exam: Exam,
    tokenizer: Any,
    lost: LostItems,
    settings: EvaluationSettings,
) -> dict[str, Array]:
    """As `ask_again`, of the reference: it is loaded once more where these answers are new."""
    own = load_tokenizer(variant.folder)
    its_exam = exam if _encode_alike(own, tokenizer) else exam.encoded_by(own)
    with open_variant(variant, settings.answer_file) as model:
        return ask_again(model, own, its_exam, lost, settings.batch_tokens)


def item_rows(measured: Measured, lost_in: Mapping[str, str]) -> Iterator[dict[str, Any]]:
    """Every item for the report: both answers side by side, and notes.

    `lost_in`: by id of an item, the step at which it was lost. The notes name that step and the
    forms in which the item is right again, and say where the reference knew the item well.
    """
    before, after = measured.answers[REFERENCE], measured.answers["adapted"]
    confident = lost_confidently(measured.exam, before, after)
    regained = measured.asked_again.regained
    for place, item in enumerate(measured.exam.items):
        notes = [f"lost in {lost_in[item['id']]}"] if item["id"] in lost_in else []
        notes += ["known well before"] if item["id"] in confident else []
        notes += [f"right again {FORMS[form]}" for form in regained.get(item["id"], ())]
        yield {
            **item,
            "prompt": _shown_prompt(item),
            "before": _answer(before, place),
            "after": _answer(after, place),
            "notes": notes,
        }


def _shown_prompt(item: Item) -> str:
    system = item.get("system")
    return f"System message: {system}\n\n{item['prompt']}" if system else item["prompt"]


def _answer(answers: Answers, place: int) -> dict[str, Any]:
    return {"response": answers.responses[place], "score": float(answers.scores[place])}


def _encode_alike(one: Any, other: Any) -> bool:
    return bool(one.chat_template == other.chat_template and one.get_vocab() == other.get_vocab())
