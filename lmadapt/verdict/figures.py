"""The figures of one evaluation, as metrics/evaluate.json holds them.

The evaluation builds these models, and every reader of the file uses them. The schema in docs/ is
generated from them: `python -m lmadapt.verdict.figures > docs/evaluate.schema.json`.
This module loads no library but pydantic.
"""

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field, ValidationError
from pydantic.json_schema import GenerateJsonSchema

from lmadapt.core.errors import UserError
from lmadapt.core.files import read_json
from lmadapt.verdict.change_figures import (
    Accuracy,
    CategoryAccuracies,
    CategoryChanges,
    CategoryStepChanges,
    Change,
    DomainChange,
    DomainTest,
    GradedChange,
    Group,
    MarginTest,
    Text,
    TextByGroup,
    TextChange,
    TextChangeByGroup,
)
from lmadapt.verdict.exam_figures import ExamFigures
from lmadapt.verdict.figure_types import Count, Figures, Interval, NonNegative, Positive, Share
from lmadapt.verdict.item_figures import (
    BehaviourRate,
    Calibration,
    Classification,
    ConfidentLosses,
    FairnessGap,
    Generation,
    LabelGaps,
)
from lmadapt.verdict.judged import Judged

# Figures of changes that readers of a whole evaluation need, too.
__all__ = [
    "Accuracy",
    "CategoryAccuracies",
    "CategoryChanges",
    "CategoryStepChanges",
    "Change",
    "Count",
    "DomainChange",
    "DomainTest",
    "Figures",
    "GradedChange",
    "Group",
    "Interval",
    "MarginTest",
    "NonNegative",
    "Positive",
    "Share",
    "Text",
    "TextByGroup",
    "TextChange",
    "TextChangeByGroup",
]

Outcome = Literal["SHIP", "HOLD", "INCONCLUSIVE"]
Step = Literal["pre-training", "quantisation", "fine-tuning", "merging"]
LaterVsEarlier = Annotated[str, Field(pattern="^.+_vs_.+$")]


class Passed(Figures):
    """How many behaviour checks a model passed."""

    passed: Count
    n: Count = Field(description="Number of checks.")


class FreeAnswers(Figures):
    """How many of the items answered in the model's own words have no usable answer."""

    empty: Count
    looping: Count = Field(description="Answers that repeat themselves to the end.")
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

    domain: DomainTest
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
    """Lost items asked again in one other form, of the adapted model and of the reference."""

    regained: Count = Field(description="Number of items that the adapted model gets right.")
    share: Share = Field(description="regained / asked.")
    interval: Interval
    kept: Count = Field(description="Number of items that the reference gets right in this form.")
    kept_share: Share = Field(description="kept / asked.")
    difference: float = Field(ge=-1, le=1, description="share - kept_share, paired by item.")
    difference_interval: Interval | None = Field(
        description="Null where the lost items are about one entity."
    )


class SpuriousForgetting(Figures):
    """Lost multiple-choice items, asked again in other forms."""

    lost: Positive = Field(description="Number of multiple-choice items that were lost.")
    asked: Positive = Field(description="Number asked again: a draw of 400 where more were lost.")
    few_shot: Regained = Field(description="Asked after solved examples.")
    bare: Regained = Field(description="Asked as plain text, without a chat template.")
    spurious: Share | None = Field(
        description="Share regained of what the reference keeps in the same form, both beyond "
        "guessing: (share - chance) / (kept_share - chance), in the better form. These items are "
        "still known; only the habit of answering was lost. Null where the reference is shown to "
        "know them in neither form."
    )
    spurious_interval: Interval | None = Field(
        description="Of that ratio (Fieller 1954), which may leave 0 to 1."
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


class Alarm(Figures):
    """A measure of how far the adapted model moved on text, which must not exceed its margin."""

    value: float
    interval: Interval
    margin: NonNegative
    low_adjusted: float = Field(
        description="Lower end of the interval, adjusted for the number of questions. Above the "
        "margin, it leads to HOLD."
    )


class Alarms(Figures):
    """What is measured on held-out general text; null where it cannot be measured."""

    bits_per_byte: Alarm | None = Field(
        description="Rise of the bits per byte, as a share of the base's."
    )
    kl: Alarm | None = Field(description="Divergence from the base, bits per token.")


class BehaviourTest(Figures):
    """Behaviours of one family that base and adapted do not both show."""

    n: Positive = Field(description="Number of behaviours.")
    shown_before: Count = Field(description="Behaviours that the base shows.")
    lost: list[str] = Field(description="Ids of those that only the base shows.")
    gained: list[str] = Field(description="Ids of those that only the adapted model shows.")
    worse_p: Share = Field(description='Exact McNemar test, one-sided, against "not worse".')
    worse_p_adjusted: Share = Field(
        description="worse_p, adjusted for the number of questions. Compare it with "
        "evaluate.significance."
    )


class BehaviourTests(Figures):
    """Families of behaviours that are judged; null where the exam has none."""

    major: BehaviourTest | None = Field(description="Checks of severity major.")
    free_answers: BehaviourTest | None = Field(
        description="Answers in the model's own words that are neither empty nor loop."
    )


class VerdictFigures(Figures):
    """The outcome, the reason, what to know before shipping, what to try, and the evidence."""

    outcome: Outcome
    reason: str = Field(min_length=1, description="One sentence.")
    reservations: list[str] = Field(
        default=[],
        description="What is accepted but must be known: shown losses within their margins, "
        "categories that cannot be measured, single lost behaviours.",
    )
    remedy: list[str] = Field(description="What to try, in sentences.")
    evidence: list[str] = Field(description="Every figure behind the outcome, one line a question.")

    @property
    def title(self) -> str:
        """The outcome as readers see it."""
        return outcome_title(self.outcome, self.reservations)


def outcome_title(outcome: Outcome, reservations: Sequence[str]) -> str:
    """The outcome as readers see it: SHIP says whether there are reservations."""
    return "SHIP with reservations" if outcome == "SHIP" and reservations else outcome


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
    behaviour_rates: dict[str, BehaviourRate] = Field(
        description="By category of the behaviour checks."
    )
    confident_losses: ConfidentLosses | None = Field(
        description="Null when the reference has fewer than two entities right with such a margin."
    )
    behaviour_tests: BehaviourTests
    alarms: Alarms
    calibration: Calibration | None = Field(
        description="Null when neither group has 100 multiple-choice items about two entities."
    )
    triage: SpuriousForgetting | None = Field(description="Null when nothing was lost.")
    dial: AdapterScale | None = Field(description="Null when evaluate.alpha_scale is a number.")
    temperature: NonNegative | None = Field(
        default=None,
        description="Of the graded scores, nats a byte, fitted on the reference; null when right "
        "and wrong answers decide.",
    )
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
    label_gaps: dict[str, dict[str, LabelGaps]] = Field(
        description="By category, then label; {} when no item has a subgroup."
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
    exam: ExamFigures
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
