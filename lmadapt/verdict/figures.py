"""The figures of one evaluation, as metrics/evaluate.json holds them.

The evaluation builds these models, and every reader of the file uses them. The schema in docs/ is
generated from them: `python -m lmadapt.verdict.figures > docs/evaluate.schema.json`.
This module loads no library but pydantic.
"""

import json
import sys
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic.json_schema import GenerateJsonSchema
from typing_extensions import TypeAliasType

from lmadapt.core.errors import UserError
from lmadapt.core.files import read_json
from lmadapt.verdict.judged import Judged

Outcome = Literal["SHIP", "HOLD", "INCONCLUSIVE"]
Group = Literal["domain", "general"]
Step = Literal["pre-training", "quantisation", "fine-tuning", "merging"]

Share = Annotated[float, Field(ge=0, le=1)]
Count = Annotated[int, Field(ge=0)]
Positive = Annotated[int, Field(ge=1)]
NonNegative = Annotated[float, Field(ge=0)]
Interval = TypeAliasType(
    "Interval", Annotated[tuple[float, float], Field(description="Lower end and upper end.")]
)
LaterVsEarlier = Annotated[str, Field(pattern="^.+_vs_.+$")]


class Figures(BaseModel):
    """Base of all figures: immutable; unknown keys, NaN and infinity are errors."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Accuracy(Figures):
    """The mean score of one model on some items."""

    accuracy: Share = Field(description="Mean score.")
    n: Positive = Field(description="Number of items.")
    interval: Interval
    chance: Share = Field(
        description="What guessing scores: the mean of 1 / number of choices, 0 for free answers."
    )
    chance_adjusted: float = Field(le=1, description="(accuracy - chance) / (1 - chance).")


class Text(Figures):
    """Bits per byte of held-out text; lower is better. Null with fewer than two texts."""

    value: NonNegative | None
    interval: Interval | None
    bytes: Count = Field(description="UTF-8 bytes of the texts.")
    documents: Count = Field(description="Number of texts.")


class Change(Figures):
    """How scores changed on the same items: later minus earlier."""

    difference: float = Field(ge=-1, le=1, description="Mean later score minus mean earlier score.")
    interval: Interval
    n: Positive = Field(description="Number of items.")
    clusters: Positive = Field(
        description="Number of entities that the items are about; items of one entity are "
        "correlated."
    )
    lost: Count = Field(description="Items whose score fell.")
    gained: Count = Field(description="Items whose score rose.")
    mcnemar_p: Share = Field(description="Exact McNemar test, two-sided.")
    better_p: Share = Field(description='One-sided test against "not better".')
    worse_p: Share = Field(description='One-sided test against "not worse".')


class DomainChange(Change):
    """How the domain changed, with the test that can hold a model back."""

    worse_p_adjusted: Share = Field(
        description="worse_p, adjusted for the number of questions (Bonferroni and Holm). Compare "
        "it with evaluate.significance."
    )


class MarginTest(DomainChange):
    """How general ability changed, with the tests against the margin."""

    margin: float = Field(gt=0, description="The largest loss that is accepted.")
    noninferiority_p: Share = Field(
        description='One-sided test against "the score fell by the margin or more".'
    )
    minimum_detectable_effect: NonNegative = Field(
        description="The smallest true loss that these items show four times out of five."
    )
    items_needed: Positive = Field(
        description="How many items would show four times out of five that the loss is below the "
        "margin, if nothing was lost."
    )


class TextChange(Figures):
    """How bits per byte changed: negative is better. Null with fewer than two texts."""

    difference: float | None
    interval: Interval | None
    bytes: Count = Field(description="UTF-8 bytes of the texts.")
    documents: Count = Field(description="Number of texts.")


class CategoryAccuracies(Figures):
    """Accuracy of one model by group and category."""

    domain: dict[str, Accuracy]
    general: dict[str, Accuracy]


class CategoryChanges(Figures):
    """Changes by group and category; only general categories have a margin."""

    domain: dict[str, Change]
    general: dict[str, MarginTest]


class CategoryStepChanges(Figures):
    """Changes in one step by group and category."""

    domain: dict[str, Change]
    general: dict[str, Change]


class TextByGroup(Figures):
    """Bits per byte of domain text and of general text."""

    domain: Text
    general: Text


class TextChangeByGroup(Figures):
    """How bits per byte of domain text and of general text changed."""

    domain: TextChange
    general: TextChange


class Passed(Figures):
    """How many behaviour checks a model passed."""

    passed: Count
    n: Count = Field(description="Number of checks.")


class FreeAnswers(Figures):
    """How many of the items answered in the model's own words have an empty answer."""

    empty: Count
    n: Count = Field(description="Number of items answered in the model's own words.")


class ModelFigures(Figures):
    """What one model scored."""

    domain: Accuracy
    general: Accuracy
    categories: CategoryAccuracies
    bits_per_byte: TextByGroup
    behaviour: Passed
    free_answers: FreeAnswers


class Changes(Figures):
    """What changed from one model to a later one."""

    domain: DomainChange
    general: MarginTest
    categories: CategoryChanges
    bits_per_byte: TextChangeByGroup


class StepChange(Figures):
    """What one step changed, on multiple-choice items."""

    step: Step
    before: str = Field(description="One of `links`.")
    after: str = Field(description="The next of `links`.")
    domain: Change
    general: Change
    categories: CategoryStepChanges


class Attribution(Figures):
    """Which step changed accuracy, from the base in bf16 to the artifact that will be served.

    Each model runs in the precision in which it exists: base, pretrained, unmerged and merged in
    bf16, quantised in nf4, adapted as it is judged.
    """

    links: list[str] = Field(
        min_length=2, description="The models compared, each made from the one before it."
    )
    steps: list[StepChange] = Field(min_length=1)


class Divergence(Figures):
    """Kullback-Leibler divergence from the reference, bits per token, on text that it wrote."""

    value: float
    interval: Interval
    tokens: Positive = Field(description="Number of tokens the reference wrote.")


class Behaviour(Figures):
    """Ids of behaviour checks that reference and adapted do not both pass or both fail."""

    lost: list[str] = Field(description="Reference passed, adapted fails.")
    gained: list[str] = Field(description="Reference failed, adapted passes.")


class Regained(Figures):
    """Lost items that are right when asked again in one other form."""

    regained: Count = Field(description="Number of items.")
    share: Share = Field(description="regained / asked.")
    interval: Interval


class SpuriousForgetting(Figures):
    """Lost multiple-choice items, asked again in other forms."""

    lost: Positive = Field(description="Number of multiple-choice items that were lost.")
    asked: Positive = Field(description="Number asked again: a draw of 400 where more were lost.")
    few_shot: Regained = Field(description="Asked after solved examples.")
    bare: Regained = Field(description="Asked as plain text, without a chat template.")
    spurious: Share = Field(
        description="Share regained beyond guessing in the better form, (share - chance) / "
        "(1 - chance). These items are still known; only the habit of answering was lost."
    )
    chance: Share = Field(description="Share that guessing would regain in one form.")


class ScaleChange(Figures):
    """How the adapted model changed from the reference at one scale of the adapter."""

    alpha_scale: NonNegative
    domain: Change
    general: Change


class AdapterScale(Figures):
    """The adapter at several scales, compared on a development half of the items."""

    rows: list[ScaleChange] = Field(min_length=1)
    chosen: NonNegative = Field(description="The scale chosen from the rows.")
    development_items: Count = Field(description="Items on which the scale was chosen.")
    sealed_items: Count = Field(description="Items of the other half, which the verdict uses.")


class FairnessGap(Figures):
    """How much likelier the first text of a pair is than the second, in nats per byte."""

    n: Positive = Field(description="Number of pairs.")
    gap_before: float = Field(description="Mean gap of the reference; 0 is no preference.")
    gap_after: float = Field(description="Mean gap of the adapted model.")
    change: float = Field(
        description="gap_after - gap_before. Positive: towards the first texts, negative: towards "
        "the second; compare both gaps with 0 to see whether the preference grew."
    )
    interval: Interval = Field(description="Of the change.")


class Classification(Figures):
    """How well a model labels. Lists follow `labels`; a row of `confusion` is one true label."""

    labels: list[str] = Field(min_length=1)
    precision: list[Share]
    recall: list[Share]
    f1: list[Share]
    macro_f1: Share
    confusion: list[list[Count]] = Field(
        description="Number of answers by true label and named label. A last column more than "
        "there are labels counts answers that name none."
    )


class Generation(Figures):
    """How similar free answers are to their references; 1 is equal."""

    rouge_l: NonNegative
    bleu: NonNegative
    chrf: NonNegative


class VerdictFigures(Figures):
    """The outcome, the reason, what to try, and the evidence."""

    outcome: Outcome
    reason: str = Field(min_length=1, description="One sentence.")
    remedy: list[str] = Field(description="What to try, in sentences; empty for SHIP.")
    evidence: list[str] = Field(description="Every figure behind the outcome, one line a question.")


class EvaluationFigures(Figures):
    """What lmadapt's evaluation measured and how it judged.

    Shares are of 1. Changes are later minus earlier. Intervals are two-sided with confidence
    1 - 2 * evaluate.significance. Figures have six significant digits.
    """

    judged: Judged
    models: dict[str, ModelFigures] = Field(
        min_length=2,
        description="reference and adapted run as `judged` says, all but reference alike.",
    )
    changes: dict[LaterVsEarlier, Changes] = Field(
        min_length=1,
        description="Changes by `LATER_vs_EARLIER`; the verdict is on adapted_vs_reference.",
        json_schema_extra={"additionalProperties": False},
    )
    attribution: Attribution | None = Field(description="Null when evaluate.attribution is false.")
    kl_to_reference: dict[str, Divergence] | None = Field(
        description="By model. Null when a model has another tokenizer than the reference, or "
        "with fewer than two general held-out texts."
    )
    behaviour: Behaviour
    triage: SpuriousForgetting | None = Field(description="Null when nothing was lost.")
    dial: AdapterScale | None = Field(description="Null when evaluate.alpha_scale is a number.")
    alpha_scale: NonNegative = Field(
        description="The adapter scale that the verdict is on and that register ships; 1 unless "
        "evaluate.alpha_scale sets or chooses another."
    )
    fairness: dict[str, FairnessGap] = Field(
        description="By category; {} when the items have no fairness pairs."
    )
    classification: dict[str, dict[str, Classification]] = Field(
        description="By category, then model."
    )
    generation: dict[str, dict[str, Generation]] = Field(description="By category, then model.")
    backward_transfer: float = Field(
        description="Mean over general categories of adapted minus base accuracy at equal "
        "precision; negative is forgetting (Lopez-Paz & Ranzato 2017)."
    )
    forgetting: float = Field(
        description="Mean over general categories of the best earlier accuracy minus the adapted "
        "one (Chaudhry et al. 2018)."
    )
    verdict: VerdictFigures


def read_evaluation(source: Path) -> EvaluationFigures:
    """The figures in a metrics/evaluate.json.

    Raises UserError naming the file and the first key that does not fit.
    """
    try:
        return EvaluationFigures.model_validate(read_json(source))
    except ValidationError as error:
        problem = error.errors()[0]
        key = ".".join(map(str, problem["loc"]))
        if problem["type"] == "missing":
            raise UserError(
                f"{source}: {key} is missing; another release of lmadapt wrote this file, "
                "`dvc repro evaluate` writes it again"
            ) from None
        raise UserError(
            f"{source}: {key}: {problem['msg']}; got {problem['input']!r:.80}"
        ) from None


class _UntitledFields(GenerateJsonSchema):
    """pydantic's JSON schema without a title for each field, which would only repeat its name."""

    def field_title_should_be_set(self, schema: Any) -> bool:
        return False


def schema_text(model: type[BaseModel], title: str) -> str:
    """The JSON schema of the files that hold a `model`, as the text of a file in docs/."""
    schema = model.model_json_schema(mode="serialization", schema_generator=_UntitledFields)
    definitions = schema.pop("$defs")
    head = {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": title}
    document = head | _described_first(schema | {"title": title})
    document["$defs"] = _described_first(definitions)
    return json.dumps(document, indent=2, ensure_ascii=False) + "\n"


def _described_first(schema: Any) -> Any:
    """Descriptions before what they describe, as a reader wants them."""
    if isinstance(schema, list):
        return [_described_first(inner) for inner in schema]
    if not isinstance(schema, dict):
        return schema
    ordered = {key: _described_first(inner) for key, inner in schema.items()}
    first = {key: ordered[key] for key in ("title", "description") if key in ordered}
    return first | ordered


if __name__ == "__main__":
    sys.stdout.write(schema_text(EvaluationFigures, "metrics/evaluate.json"))
