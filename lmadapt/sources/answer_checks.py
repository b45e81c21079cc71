"""Rules that score what a model says: behaviour checks and free-form items; none of them asks for an opinion."""

import json
import re
import unicodedata
from collections.abc import Callable, Sequence
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, TypeAdapter, ValidationError

from lmadapt.core.errors import UserError


class _Check(BaseModel):
    """The keys of a check; others are refused."""

    model_config = ConfigDict(extra="forbid", strict=True)


class _Exact(_Check):
    kind: Literal["exact"]
    value: str | float | list[str | float]


class _Number(_Check):
    kind: Literal["number"]
    value: FiniteFloat


class _ContainsAll(_Check):
    kind: Literal["contains_all"]
    values: list[str]


class _Regex(_Check):
    kind: Literal["regex"]
    pattern: re.Pattern[str]


class _Sentence(_Check):
    kind: Literal["sentence"]
    min_words: int
    contains: str


class _JsonKeys(_Check):
    kind: Literal["json_keys"]
    keys: list[str]


class _JsonSchema(_Check):
    kind: Literal["json_schema"]
    schema_: dict[str, Any] = Field(alias="schema")


class _Label(_Check):
    kind: Literal["label"]
    value: str
    labels: list[str]


class _References(_Check):
    kind: Literal["rouge_l", "chrf", "bleu"]
    references: list[str] = Field(min_length=1)


CHECK: TypeAdapter[Any] = TypeAdapter(
    Annotated[
        _Exact
        | _Number
        | _ContainsAll
        | _Regex
        | _Sentence
        | _JsonKeys
        | _JsonSchema
        | _Label
        | _References,
        Field(discriminator="kind"),
    ]
)

Rule = Callable[[str, dict[str, Any]], float]


def score_answer(answer: str, check: str) -> float:
    """How well `answer` satisfies `check`, from 0 to 1; `check` is a JSON object with `kind` and that kind's keys.

    Right or wrong (1 or 0):
    {"kind": "exact", "value": V}: equal to V but for case, punctuation, articles and white space (Rajpurkar et al.
    2016, SQuAD); V may be a list of allowed answers.
    {"kind": "number", "value": V}: the last number in the answer equals V.
    {"kind": "contains_all", "values": [...]}: each of them occurs, in any case.
    {"kind": "regex", "pattern": P}: P is found in the answer.
    {"kind": "sentence", "min_words": N, "contains": W}: at least N words, ending in . ! or ?, containing W in any
    case, at least half of its words distinct (so that a loop does not pass).
    {"kind": "json_keys", "keys": [...]}: the first {...} object in the answer parses and has exactly these keys.
    {"kind": "json_schema", "schema": S}: the first {...} object in the answer parses and satisfies S.
    {"kind": "label", "value": L, "labels": [...]}: of the labels, L is named first (see `named_label`).
    By degrees, the best over the references:
    {"kind": "rouge_l", "references": [...]}: ROUGE-L's F1 (Lin 2004).
    {"kind": "chrf", "references": [...]}: chrF2 / 100 (Popović 2015).
    {"kind": "bleu", "references": [...]}: sentence BLEU / 100 (Papineni et al. 2002), exponential smoothing.
    Raises UserError when the check is none of these.
    """
    try:
        wanted = json.loads(check)
        return min(1.0, float(RULES[wanted["kind"]](answer, wanted)))
    except (ValueError, KeyError, TypeError, AttributeError, re.error) as error:
        raise UserError(
            f"check {check!r} cannot be applied ({type(error).__name__}: {error}); "
            f"allowed kinds: {', '.join(RULES)}, with the keys described in docs/evaluation.md"
        ) from None


def check_problem(check: str) -> str:
    """What is wrong with a check, as a sentence; "" when it can be applied."""
    try:
        CHECK.validate_json(check)
        score_answer("", check)
    except ValidationError as error:
        problem = error.errors()[0]
        place = ".".join(map(str, problem["loc"][1:])) or "as a whole"
        return f"check {check!r}, {place}: {problem['msg']}"
    except UserError as error:
        return str(error)
    return ""


def named_label(answer: str, labels: Sequence[str]) -> str:
    """The label that occurs first in `answer` as whole words, in any case; "" where none does."""
    found = [
        (re.search(rf"(?<!\w){re.escape(label)}(?!\w)", answer, re.IGNORECASE), label)
        for label in labels
    ]
    places = [(match.start(), -len(label), label) for match, label in found if match]
    return str(min(places)[2]) if places else ""


def _is_exact(answer: str, wanted: dict[str, Any]) -> bool:
    allowed = wanted["value"] if isinstance(wanted["value"], list) else [wanted["value"]]
    return _normalised(answer) in {_normalised(str(value)) for value in allowed}


def _normalised(text: str) -> str:
    words = re.sub(r"[^\w\s]", " ", unicodedata.normalize("NFKC", text).casefold()).split()
    return " ".join(word for word in words if word not in {"a", "an", "the"})


def _ends_in_number(answer: str, wanted: dict[str, Any]) -> bool:
    value = float(wanted["value"])
    numbers = re.findall(r"-?\d+(?:\.\d+)?", re.sub(r"(?<=\d),(?=\d{3})", "", answer))
    return bool(numbers) and float(numbers[-1]) == value


def _contains_all(answer: str, wanted: dict[str, Any]) -> bool:
    return all(str(value).casefold() in answer.casefold() for value in wanted["values"])


def _matches(answer: str, wanted: dict[str, Any]) -> bool:
    return re.search(wanted["pattern"], answer) is not None


def _is_sentence(answer: str, wanted: dict[str, Any]) -> bool:
    words = re.findall(r"\w+", answer.lower())
    return (
        len(words) >= int(wanted["min_words"])
        and answer.rstrip().endswith((".", "!", "?"))
        and str(wanted["contains"]).lower() in answer.lower()
        and len(set(words)) * 2 >= len(words)
    )


def _has_keys(answer: str, wanted: dict[str, Any]) -> bool:
    found = _first_object(answer)
    return found is not None and set(found) == set(wanted["keys"])


def _fits_schema(answer: str, wanted: dict[str, Any]) -> bool:
    from jsonschema import Draft202012Validator, SchemaError

    try:
        Draft202012Validator.check_schema(wanted["schema"])
    except SchemaError as error:
        raise ValueError(error.message) from None
    found = _first_object(answer)
    return found is not None and bool(Draft202012Validator(wanted["schema"]).is_valid(found))


def _first_object(answer: str) -> dict[str, Any] | None:
    try:
        found, _ = json.JSONDecoder().raw_decode(answer, answer.index("{"))
    except ValueError:
        return None
    return dict(found)


def _has_label(answer: str, wanted: dict[str, Any]) -> bool:
    if wanted["value"] not in wanted["labels"]:
        raise ValueError(f"value {wanted['value']!r} is none of the labels")
    return bool(named_label(answer, wanted["labels"]) == wanted["value"])


def _rouge_l(answer: str, wanted: dict[str, Any]) -> float:
    from rouge_score.rouge_scorer import RougeScorer

    scorer = RougeScorer(["rougeL"])
    return float(
        max(scorer.score(str(text), answer)["rougeL"].fmeasure for text in wanted["references"])
    )


def _chrf(answer: str, wanted: dict[str, Any]) -> float:
    from sacrebleu import sentence_chrf

    return float(sentence_chrf(answer, list(wanted["references"])).score) / 100


def _bleu(answer: str, wanted: dict[str, Any]) -> float:
    from sacrebleu import sentence_bleu

    return float(sentence_bleu(answer, list(wanted["references"])).score) / 100


RULES: dict[str, Rule] = {
    "exact": _is_exact,
    "number": _ends_in_number,
    "contains_all": _contains_all,
    "regex": _matches,
    "sentence": _is_sentence,
    "json_keys": _has_keys,
    "json_schema": _fits_schema,
    "label": _has_label,
    "rouge_l": _rouge_l,
    "chrf": _chrf,
    "bleu": _bleu,
}
