"""The figures of an evaluation as they stand in metrics/evaluate.json.

This is the one schema of everything that writes or reads them;
docs/evaluate.schema.json is generated from it. It loads no library but pydantic.
"""

from pathlib import Path
from typing import Annotated, Generic, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from lmadapt.core.errors import UserError
from lmadapt.core.files import read_json

Outcome = Literal["SHIP", "HOLD", "INCONCLUSIVE"]
Group = Literal["domain", "general"]
Step = Literal["pre-training", "quantisation", "fine-tuning", "merging"]

Share = Annotated[float, Field(ge=0, le=1)]
Count = Annotated[int, Field(ge=0)]
Positive = Annotated[int, Field(ge=1)]
NonNegative = Annotated[float, Field(ge=0)]
Interval = tuple[float, float]
General = TypeVar("General")
Domain = TypeVar("Domain")


class Figures(BaseModel):
    """Base of all figures: immutable, and no key that is not named here."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Accuracy(Figures):
    """Mean score of one model on some items."""

    accuracy: Share = Field(description="Mean score.")
    n: Positive = Field(description="Items.")
    interval: Interval
    chance: Share = Field(description="Mean of 1 / number of choices; 0 for free answers.")
    chance_adjusted: float = Field(le=1, description="(accuracy - chance) / (1 - chance).")


class Text(Figures):
    """Bits per byte of held-out text; null with fewer than two texts."""

    value: NonNegative | None
    interval: Interval | None
    bytes: Count
    documents: Count


class Change(Figures):
    """A paired change of accuracy on the same items, later minus earlier."""

    difference: float = Field(ge=-1, le=1)
    interval: Interval
    n: Positive = Field(description="Items.")
    clusters: Positive = Field(
        description="Entities the items are about; items of one entity are correlated."
    )
    lost: Count = Field(description="Items whose score fell.")
    gained: Count = Field(description="Items whose score rose.")
    mcnemar_p: Share = Field(description="Two-sided exact McNemar test.")
    better_p: Share = Field(description="One-sided, against not better.")
    worse_p: Share = Field(description="One-sided, against not worse.")


class DomainChange(Change):
    """The change of the domain, with the harm test of the verdict."""

    worse_p_adjusted: Share = Field(
        description="worse_p adjusted for the number of questions (Bonferroni, Holm): compare it "
        "with the level of the verdict."
    )


class MarginTest(DomainChange):
    """A change of general ability and its tests against the margin."""

    margin: float = Field(gt=0, description="The loss that is still accepted.")
    noninferiority_p: Share = Field(description="Against a loss of the margin or more.")
    minimum_detectable_effect: NonNegative = Field(
        description="The smallest true loss that such items show four times out of five."
    )
    items_needed: Positive = Field(
        description="Items that show four times out of five that less than the margin was lost, "
        "if nothing was lost."
    )


class TextChange(Figures):
    """Change of bits per byte, negative when the later model is better; null below two texts."""

    difference: float | None
    interval: Interval | None
    bytes: Count
    documents: Count


class ByGroup(Figures, Generic[Domain, General]):
    """Something of the domain and of general ability."""

    domain: Domain
    general: General


class ModelFigures(Figures):
    """What one model scored."""

    domain: Accuracy
    general: Accuracy
    categories: ByGroup[dict[str, Accuracy], dict[str, Accuracy]]
    bits_per_byte: ByGroup[Text, Text]
    behaviour: "Passed"
    free_answers: "FreeAnswers"


class Passed(Figures):
    """Behaviour checks that a model passed, of `n`."""

    passed: Count
    n: Count


class FreeAnswers(Figures):
    """Items answered in the model's own words, and how many of these answers are empty."""

    empty: Count
    n: Count


class Changes(Figures):
    """What changed from one model to a later one."""

    domain: DomainChange
    general: MarginTest
    categories: ByGroup[dict[str, Change], dict[str, MarginTest]]
    bits_per_byte: ByGroup[TextChange, TextChange]


class StepChange(Figures):
    """What one step of the chain changed, on multiple-choice items."""

    step: Step
    before: str = Field(description="One of `links`.")
    after: str = Field(description="The next of `links`.")
    domain: Change
    general: Change
    categories: ByGroup[dict[str, Change], dict[str, Change]]


class Attribution(Figures):
    """Where accuracy changed: each link in the precision in which it exists.

    base, pretrained and merged are in bf16, quantised and adapted in nf4 when evaluate.precision is
    nf4.
    """

    links: list[str] = Field(min_length=2, description="In the order of the chain.")
    steps: list[StepChange] = Field(min_length=1)


class Divergence(Figures):
    """Kullback-Leibler divergence from the base, in bits per token, on text the base wrote."""

    value: float
    interval: Interval
    tokens: Positive


class Behaviour(Figures):
    """Ids of the behaviour checks that base passed and adapted fails (lost), and the reverse."""

    lost: list[str]
    gained: list[str]


class Regained(Figures):
    """Items that were right when asked again in another form."""

    regained: Count
    share: Share
    interval: Interval


class SpuriousForgetting(Figures):
    """Lost multiple-choice items, asked again in other forms."""

    lost: Positive = Field(description="Multiple-choice items that were lost.")
    asked: Positive = Field(description="Those asked again, drawn where over 400 were lost.")
    few_shot: Regained = Field(description="With solved examples before the question.")
    bare: Regained = Field(description="As plain text, without a chat template.")
    spurious: Share = Field(
        description="Share regained beyond guessing in the better way, (share - chance) / "
        "(1 - chance): knowledge kept, alignment lost."
    )
    chance: Share = Field(description="Share that guessing would regain in one way of asking.")


class ScaleChange(Figures):
    """The change from the base at one scale of the adapter."""

    alpha_scale: NonNegative
    domain: Change
    general: Change


class AdapterScale(Figures):
    """The sweep of the adapter's scale on a development half of the items."""

    rows: list[ScaleChange] = Field(min_length=1)
    chosen: NonNegative = Field(description="The scale taken, one of the rows'.")
    development_items: Count
    sealed_items: Count = Field(description="Items of the other half, on which the verdict rests.")


class FairnessGap(Figures):
    """The gap between the two prompts of a pair, in nats per byte."""

    n: Positive = Field(description="Pairs.")
    gap_before: float = Field(description="Of base.")
    gap_after: float = Field(description="Of adapted.")
    change: float = Field(description="gap_after - gap_before.")
    interval: Interval = Field(description="Of the change.")


class Classification(Figures):
    """Lists run over `labels`; rows of `confusion` over true labels."""

    labels: list[str] = Field(min_length=1)
    precision: list[Share]
    recall: list[Share]
    f1: list[Share]
    macro_f1: Share
    confusion: list[list[Count]] = Field(
        description="Counts; one more column, where there is one, counts answers that are no label."
    )


class Generation(Figures):
    """Likeness of free answers to their references."""

    rouge_l: NonNegative
    bleu: NonNegative
    chrf: NonNegative


class VerdictFigures(Figures):
    """The outcome, why, what to try, and the evidence."""

    outcome: Outcome
    reason: str = Field(min_length=1, description="One sentence.")
    remedy: list[str] = Field(description="What to try, in sentences; empty for SHIP.")
    evidence: list[str] = Field(description="Every figure behind the outcome, one line a question.")


class EvaluationFigures(Figures):
    """What lmadapt's evaluation measured and how it judged.

    Shares are of 1; changes are later minus earlier; intervals are two-sided with confidence
    1 - 2 * evaluate.significance; figures have six significant digits.
    """

    models: dict[str, ModelFigures] = Field(
        min_length=2,
        description="By model (base, pretrained, adapted), all in evaluate.precision.",
    )
    changes: dict[str, Changes] = Field(
        min_length=1,
        description="Paired changes by `LATER_vs_EARLIER`; the verdict is on adapted_vs_base.",
    )
    attribution: Attribution | None = Field(description="Null when evaluate.attribution is false.")
    kl_to_base: dict[str, Divergence] | None = Field(
        description="By model; null when not measured."
    )
    behaviour: Behaviour
    triage: SpuriousForgetting | None = Field(description="Null when nothing was lost.")
    dial: AdapterScale | None = Field(description="Null when evaluate.alpha_scale is a number.")
    alpha_scale: NonNegative = Field(
        description="The adapter scale that was judged and that register ships; 1 unless the sweep "
        "chose another."
    )
    fairness: dict[str, FairnessGap] = Field(description="By category; {} when there are no pairs.")
    classification: dict[str, dict[str, Classification]] = Field(
        description="By category, then model."
    )
    generation: dict[str, dict[str, Generation]] = Field(description="By category, then model.")
    backward_transfer: float = Field(
        description="Mean over general categories of adapted - base (Lopez-Paz & Ranzato 2017)."
    )
    forgetting: float = Field(
        description="Mean over general categories of the best earlier accuracy - adapted "
        "(Chaudhry et al. 2018)."
    )
    verdict: VerdictFigures


def read_evaluation(source: Path) -> EvaluationFigures:
    """The figures in metrics/evaluate.json.

    Raises UserError naming the file, and the first key that does not fit, where it is unusable.
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
