"""Checks that score a free answer: for behaviour items and free-form items.

Each kind of check is one class: its keys, and how it scores an answer. No check asks another
model for its opinion.
"""

import json
import re
import unicodedata
from collections.abc import Sequence
from typing import Annotated, Any, Literal, get_args

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    FiniteFloat,
    TypeAdapter,
    ValidationError,
    field_validator,
    model_validator,
)

from lmadapt.core.errors import UserError


class _Check(BaseModel):
    """A kind of check: its keys, which are strict, and its score."""

    model_config = ConfigDict(extra="forbid", strict=True)

    def score(self, answer: str) -> float:
        """How well the answer satisfies the check, from 0 to 1."""
        raise NotImplementedError


class Exact(_Check):
    """The answer equals an allowed value, ignoring case, punctuation, articles and white space.

    Rajpurkar et al. 2016, SQuAD.
    """

    kind: Literal["exact"]
    value: str | int | float | list[str | int | float]

    def score(self, answer: str) -> float:
        """1 or 0."""
        allowed = self.value if isinstance(self.value, list) else [self.value]
        return _normalised(answer) in {_normalised(str(value)) for value in allowed}


class Number(_Check):
    """The last number in the answer equals the value."""

    kind: Literal["number"]
    value: FiniteFloat

    def score(self, answer: str) -> float:
        """1 or 0."""
        without_commas = re.sub(r"(?<=\d),(?=\d{3})", "", answer)
        numbers = re.findall(r"-?\d+(?:\.\d+)?", without_commas)
        return bool(numbers) and float(numbers[-1]) == self.value


class ContainsAll(_Check):
    """Each of the values occurs in the answer, in any case."""

    kind: Literal["contains_all"]
    values: list[str]

    def score(self, answer: str) -> float:
        """1 or 0."""
        return all(value.casefold() in answer.casefold() for value in self.values)


class Regex(_Check):
    """The pattern is found in the answer."""

    kind: Literal["regex"]
    pattern: re.Pattern[str]

    def score(self, answer: str) -> float:
        """1 or 0."""
        return self.pattern.search(answer) is not None


class Sentence(_Check):
    """At least `min_words` words that end in . ! or ? and contain a word, in any case.

    At least half of the words are distinct, so that a loop does not pass.
    """

    kind: Literal["sentence"]
    min_words: int
    contains: str

    def score(self, answer: str) -> float:
        """1 or 0."""
        words = re.findall(r"\w+", answer.lower())
        return (
            len(words) >= self.min_words
            and answer.rstrip().endswith((".", "!", "?"))
            and self.contains.lower() in answer.lower()
            and len(set(words)) * 2 >= len(words)
        )


class JsonKeys(_Check):
    """The first {...} object in the answer parses and has exactly these keys."""

    kind: Literal["json_keys"]
    keys: list[str]

    def score(self, answer: str) -> float:
        """1 or 0."""
        found = _first_object(answer)
        return found is not None and set(found) == set(self.keys)


class JsonSchema(_Check):
    """The first {...} object in the answer parses and satisfies the schema."""

    kind: Literal["json_schema"]
    schema_: dict[str, Any] = Field(alias="schema")

    @field_validator("schema_")
    @classmethod
    def _valid_schema(cls, schema: dict[str, Any]) -> dict[str, Any]:
        from jsonschema import Draft202012Validator, SchemaError

        try:
            Draft202012Validator.check_schema(schema)
        except SchemaError as error:
            raise ValueError(error.message) from None
        return schema

    def score(self, answer: str) -> float:
        """1 or 0."""
        from jsonschema import Draft202012Validator

        found = _first_object(answer)
        return found is not None and bool(Draft202012Validator(self.schema_).is_valid(found))


class Label(_Check):
    """Of the labels, the answer names the right one first (see `named_label`)."""

    kind: Literal["label"]
    value: str
    labels: list[str]

    @model_validator(mode="after")
    def _value_is_a_label(self) -> "Label":
        if self.value not in self.labels:
            raise ValueError(f"value {self.value!r} is not one of the labels")
        return self

    def score(self, answer: str) -> float:
        """1 or 0."""
        return named_label(answer, self.labels) == self.value


class RougeL(_Check):
    """F1 of ROUGE-L (Lin 2004) against the best reference."""

    kind: Literal["rouge_l"]
    references: list[str] = Field(min_length=1)

    def score(self, answer: str) -> float:
        """From 0 to 1."""
        from rouge_score.rouge_scorer import RougeScorer

        scorer = RougeScorer(["rougeL"])
        return max(float(scorer.score(one, answer)["rougeL"].fmeasure) for one in self.references)


class Chrf(_Check):
    """chrF2 / 100 (Popović 2015) against the best reference."""

    kind: Literal["chrf"]
    references: list[str] = Field(min_length=1)

    def score(self, answer: str) -> float:
        """From 0 to 1."""
        from sacrebleu import sentence_chrf

        return float(sentence_chrf(answer, self.references).score) / 100


class Bleu(_Check):
    """Sentence BLEU / 100 (Papineni et al. 2002) against the references, exponentially smoothed."""

    kind: Literal["bleu"]
    references: list[str] = Field(min_length=1)

    def score(self, answer: str) -> float:
        """From 0 to 1."""
        from sacrebleu import sentence_bleu

        return float(sentence_bleu(answer, self.references).score) / 100


Check = (
    Exact
    | Number
    | ContainsAll
    | Regex
    | Sentence
    | JsonKeys
    | JsonSchema
    | Label
    | RougeL
    | Chrf
    | Bleu
)
KINDS = [get_args(check.model_fields["kind"].annotation)[0] for check in get_args(Check)]
_ADAPTER: TypeAdapter[Check] = TypeAdapter(Annotated[Check, Field(discriminator="kind")])


def score_answer(answer: str, check: str) -> float:
    """How well `answer` satisfies `check`, from 0 to 1.

    `check` is a JSON object with a `kind` and the keys of that kind's class. Raises UserError
    when it is not.
    """
    try:
        return min(1.0, float(_ADAPTER.validate_json(check).score(answer)))
    except ValidationError as error:
        raise UserError(
            f"{_explain(check, error)}; allowed kinds: {', '.join(KINDS)}, "
            "with the keys described in docs/evaluation.md"
        ) from None


def check_problem(check: str) -> str:
    """What is wrong with a check, as a sentence; "" if it can be applied."""
    try:
        _ADAPTER.validate_json(check)
    except ValidationError as error:
        return _explain(check, error)
    return ""


def _explain(check: str, error: ValidationError) -> str:
    problem = error.errors()[0]
    place = ".".join(map(str, problem["loc"][1:])) or "as a whole"
    return f"check {check!r}, {place}: {problem['msg']}"


def named_label(answer: str, labels: Sequence[str]) -> str:
    """The label that occurs first in `answer` as whole words, in any case; "" if none does.

    Of two labels that start at one place, the longer one is meant.
    """
    places = []
    for label in labels:
        match = re.search(rf"(?<!\w){re.escape(label)}(?!\w)", answer, re.IGNORECASE)
        if match:
            places.append((match.start(), -len(label), label))
    return min(places)[2] if places else ""


def _normalised(text: str) -> str:
    words = re.sub(r"[^\w\s]", " ", unicodedata.normalize("NFKC", text).casefold()).split()
    return " ".join(word for word in words if word not in {"a", "an", "the"})


def _first_object(answer: str) -> dict[str, Any] | None:
    try:
        found, _ = json.JSONDecoder().raw_decode(answer, answer.index("{"))
    except ValueError:
        return None
    return dict(found)
