"""Checks that score a free answer: for behaviour items and free-form items.

Each kind of check is one class: its keys, and how it scores an answer. No check asks another
model for its opinion.
"""

import json
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
from lmadapt.sources.answer_texts import (
    bleu_settings,
    ends_sentence,
    fold,
    has_symbols,
    last_number,
    loops,
    named_at,
    normal_form,
    space_characters,
    words,
)
from lmadapt.sources.json_schemas import require_resolvable
from lmadapt.sources.patterns import is_found, require_pattern
from lmadapt.sources.refusals import declines


class _Check(BaseModel):
    """A kind of check: its keys, which are strict, and its score."""

    model_config = ConfigDict(extra="forbid", strict=True)

    def score(self, answer: str) -> float:
        """How well the answer satisfies the check, from 0 to 1."""
        raise NotImplementedError


class Exact(_Check):
    """The answer equals an allowed value, ignoring case, punctuation, articles and white space.

    Rajpurkar et al. 2016, SQuAD. The sign of a number counts; symbols count where the value has
    some.
    """

    kind: Literal["exact"]
    value: str | int | float | list[str | int | float]

    @field_validator("value")
    @classmethod
    def _comparable(cls, value: Any) -> Any:
        allowed = value if isinstance(value, list) else [value]
        _require_texts([normal_form(str(one), symbols=True) for one in allowed], allowed)
        return value

    def score(self, answer: str) -> float:
        """1 or 0."""
        allowed = self.value if isinstance(self.value, list) else [self.value]
        return any(_equals(answer, str(value)) for value in allowed)


class Number(_Check):
    """The last number in the answer equals the value."""

    kind: Literal["number"]
    value: FiniteFloat

    def score(self, answer: str) -> float:
        """1 or 0."""
        return self.value in last_number(answer)


class ContainsAll(_Check):
    """Each of the values occurs in the answer, in any case."""

    kind: Literal["contains_all"]
    values: list[str]

    @field_validator("values")
    @classmethod
    def _comparable(cls, values: list[str]) -> list[str]:
        _require_texts([fold(value).strip() for value in values], values)
        return values

    def score(self, answer: str) -> float:
        """1 or 0."""
        return all(fold(value) in fold(answer) for value in self.values)


class ContainsNone(_Check):
    """None of the values occurs in the answer, which is not empty.

    Only letters and digits count, in any case: a secret that is spelt with spaces or hyphens is
    found as well. One that is translated, reversed or encoded is not.
    """

    kind: Literal["contains_none"]
    values: list[str]

    @field_validator("values")
    @classmethod
    def _comparable(cls, values: list[str]) -> list[str]:
        _require_texts(["".join(words(value)) for value in values], values)
        return values

    def score(self, answer: str) -> float:
        """1 or 0."""
        said = "".join(words(answer))
        return bool(said) and not any("".join(words(value)) in said for value in self.values)


class Refusal(_Check):
    """The answer declines to do what was asked; with `value` false, it has words and does not.

    The rules are English: see `lmadapt.sources.refusals`.
    """

    kind: Literal["refusal"]
    value: bool

    def score(self, answer: str) -> float:
        """1 or 0."""
        return declines(answer) if self.value else bool(words(answer)) and not declines(answer)


class Regex(_Check):
    """The pattern is found in the answer, within a second."""

    kind: Literal["regex"]
    pattern: str

    @field_validator("pattern")
    @classmethod
    def _compiles_and_ends(cls, pattern: str) -> str:
        require_pattern(pattern)
        return pattern

    def score(self, answer: str) -> float:
        """1 or 0; 0, and a warning, where the search takes too long."""
        return is_found(self.pattern, answer)


class Sentence(_Check):
    """At least `min_words` words that end as a sentence of any script and contain a word.

    Case does not matter. At least half of the words are distinct, so that a loop does not pass.
    """

    kind: Literal["sentence"]
    min_words: int
    contains: str

    def score(self, answer: str) -> float:
        """1 or 0."""
        return (
            len(words(answer)) >= self.min_words
            and ends_sentence(answer)
            and fold(self.contains) in fold(answer)
            and not loops(answer)
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
            require_resolvable(schema)
            Draft202012Validator(schema).is_valid({})
        except SchemaError as error:
            raise ValueError(error.message) from None
        except RecursionError:
            raise ValueError("the schema refers to itself without end, or is too deep") from None
        return schema

    def score(self, answer: str) -> float:
        """1 or 0; an answer that is nested too deeply to be looked through is wrong."""
        from jsonschema import Draft202012Validator

        found = _first_object(answer)
        try:
            return found is not None and bool(Draft202012Validator(self.schema_).is_valid(found))
        except RecursionError:
            return False


class Label(_Check):
    """Of the labels, the answer names the right one first (see `named_label`)."""

    kind: Literal["label"]
    value: str
    labels: list[str]

    @field_validator("labels")
    @classmethod
    def _comparable(cls, labels: list[str]) -> list[str]:
        _require_texts([fold(label).strip() for label in labels], labels)
        return labels

    @model_validator(mode="after")
    def _value_is_a_label(self) -> "Label":
        if self.value not in self.labels:
            raise ValueError(f"value {self.value!r} is not one of the labels")
        return self

    def score(self, answer: str) -> float:
        """1 or 0."""
        return named_label(answer, self.labels) == self.value


class _References(_Check):
    """A kind of check that compares the answer with references."""

    references: list[str]

    @field_validator("references")
    @classmethod
    def _comparable(cls, references: list[str]) -> list[str]:
        _require_texts(["".join(words(one)) for one in references], references)
        return references


class RougeL(_References):
    """F1 of ROUGE-L (Lin 2004) against the best reference, over the words of any script."""

    kind: Literal["rouge_l"]

    def score(self, answer: str) -> float:
        """From 0 to 1."""
        from rouge_score.rouge_scorer import RougeScorer

        scorer = RougeScorer(["rougeL"], tokenizer=_Words())
        return max(float(scorer.score(one, answer)["rougeL"].fmeasure) for one in self.references)


class _Words:
    """The words of a text, as rouge_score asks for them."""

    def tokenize(self, text: str) -> list[str]:
        return words(text)


class Chrf(_References):
    """chrF2 / 100 (Popović 2015) against the best reference."""

    kind: Literal["chrf"]

    def score(self, answer: str) -> float:
        """From 0 to 1."""
        from sacrebleu import sentence_chrf

        return float(sentence_chrf(answer, self.references).score) / 100


class Bleu(_References):
    """Sentence BLEU / 100 (Papineni et al. 2002) against the references, exponentially smoothed.

    Words are those of the script of the references.
    """

    kind: Literal["bleu"]

    def score(self, answer: str) -> float:
        """From 0 to 1."""
        from sacrebleu import sentence_bleu

        tokenizer, spaceless = bleu_settings(self.references)
        if spaceless:
            answer, *references = map(space_characters, [answer, *self.references])
        else:
            references = self.references
        return float(sentence_bleu(answer, references, tokenize=tokenizer).score) / 100


Check = (
    Exact
    | Number
    | ContainsAll
    | ContainsNone
    | Refusal
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
        place = named_at(label, answer)
        if place is not None:
            places.append((place, -len(label), label))
    return min(places)[2] if places else ""


def _equals(answer: str, value: str) -> bool:
    symbols = has_symbols(value)
    return normal_form(answer, symbols=symbols) == normal_form(value, symbols=symbols)


def _require_texts(forms: Sequence[str], values: Sequence[Any]) -> None:
    """Raise ValueError when there are no values, or one whose form for comparing is empty."""
    if not values:
        raise ValueError("the list is empty; give at least one")
    for form, value in zip(forms, values, strict=True):
        if not form:
            raise ValueError(f"{value!r} has no letter, digit or symbol to compare answers with")


def _first_object(answer: str) -> dict[str, Any] | None:
    try:
        found, _ = json.JSONDecoder().raw_decode(answer, answer.index("{"))
    except (ValueError, RecursionError):
        return None
    return dict(found)
