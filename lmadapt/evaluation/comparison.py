"""Everything that is asked of the models of one comparison, each loaded once."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scipy.special import ndtri

from lmadapt.evaluation.divergence import divergence, let_base_write, text_nats
from lmadapt.evaluation.exam import ABILITIES, Answers, Exam, Row, sit_exam
from lmadapt.evaluation.spurious_forgetting import triage
from lmadapt.evaluation.variants import ModelVariant, examinee
from lmadapt.models.loading import load_tokenizer

FORMS = {"few_shot": "after solved examples", "bare": "as plain text"}

Figures = dict[str, Any]


@dataclass(frozen=True)
class Measured:
    """The exam, what each model answered, and what was asked beyond it."""

    links: Mapping[str, ModelVariant]
    exam: Exam
    answers: dict[str, Answers]  # by the name of the link
    kl_to_base: Figures | None
    triage: Figures | None
    regained: dict[str, list[str]]  # by item that was asked again, the forms in which it was right


def measure(
    links: Mapping[str, ModelVariant],
    exam: Exam,
    tokenizer: Any,
    *,
    kept: Path,
    batch_tokens: int,
    max_new_tokens: int,
    significance: float,
    seed: int,
    lm_eval_tasks: Sequence[str] = (),
) -> Measured:
    """Put the exam to each of the links, "base" first and "adapted" last; nothing is asked that is in the file `kept`.

    `tokenizer` is the base's, by which the exam is encoded. A link with another is asked in its own tokens; there is
    no divergence from the base then.
    Raises UserError as the scorer does, and where lm-evaluation-harness refuses a task.
    """
    answers: dict[str, Answers] = {}
    nats, tasks = {}, {}
    again: Figures | None = None
    regained: dict[str, list[str]] = {}
    for name, link in links.items():
        own = load_tokenizer(link.folder)
        same = _alike(own, tokenizer)
        its_exam = exam if same else exam.encoded_by(own)
        with examinee(link, kept) as asked:
            if name == "base":
                text = let_base_write(asked, exam, seed=seed)
            answers[name] = sit_exam(
                asked,
                own,
                its_exam,
                name=name,
                batch_tokens=batch_tokens,
                max_new_tokens=max_new_tokens,
            )
            if same:
                nats[name] = text_nats(asked, text, batch_tokens=batch_tokens)
            if lm_eval_tasks:
                from lmadapt.evaluation.lm_eval_tasks import answer_tasks

                tasks[name] = answer_tasks(asked, own, lm_eval_tasks)
            if name == "adapted":
                again, regained = triage(
                    asked,
                    own,
                    its_exam,
                    answers["base"],
                    answers[name],
                    batch_tokens=batch_tokens,
                    quantile=float(ndtri(1 - significance)),
                    seed=seed,
                )
    kl_to_base = (
        divergence(text, nats, significance=significance, seed=seed)
        if len(nats) == len(links)
        else None
    )
    if tasks:
        from lmadapt.evaluation.lm_eval_tasks import add_tasks

        exam, answers = add_tasks(exam, answers, tasks)
    return Measured(links, exam, answers, kl_to_base, again, regained)


def _alike(one: Any, other: Any) -> bool:
    return bool(one.chat_template == other.chat_template and one.get_vocab() == other.get_vocab())


def measure_chain(
    links: Mapping[str, ModelVariant],
    measured: Measured,
    tokenizer: Any,
    *,
    kept: Path,
    batch_tokens: int,
) -> tuple[Exam, dict[str, Answers]]:
    """The multiple-choice items of domain and general ability, and what each of the links answered, in their order.

    Links that were measured before are not asked again.
    """
    known = {link: name for name, link in measured.links.items()}
    chosen = [
        i
        for i, item in enumerate(measured.exam.items)
        if item["group"] in ABILITIES and item["choices"]
    ]
    part = measured.exam.of(lambda item: item["group"] in ABILITIES and bool(item["choices"]))
    answers = {}
    for name, link in links.items():
        if link in known:
            answers[name] = measured.answers[known[link]].of(chosen)
            continue
        with examinee(link, kept) as asked:
            shown = f"{name}, {link.precision}"
            answers[name] = sit_exam(
                asked, tokenizer, part, name=shown, batch_tokens=batch_tokens, max_new_tokens=1
            )
    return part, answers


def item_rows(measured: Measured, lost_in: Mapping[str, str]) -> Iterator[Row]:
    """The items, both answers side by side, where each was lost and what brought it back, for the report."""
    before, after = measured.answers["base"], measured.answers["adapted"]
    for place, item in enumerate(measured.exam.items):
        answers = {
            name: {"response": model.responses[place], "score": float(model.scores[place])}
            for name, model in (("before", before), ("after", after))
        }
        notes = [f"lost in {lost_in[item['id']]}"] if item["id"] in lost_in else []
        notes += [f"right again {FORMS[form]}" for form in measured.regained.get(item["id"], ())]
        yield item | answers | {"notes": notes}
