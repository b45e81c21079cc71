"""The settings of an evaluation."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from lmadapt.evaluation.answer_cache import ANSWER_FILE
from lmadapt.verdict.comparison import MarginScale, Score


@dataclass(frozen=True, kw_only=True)
class EvaluationSettings:
    """How models are asked, and what counts as a loss; params.yaml describes each setting."""

    seed: int  # of drawn text
    margin: float  # accepted loss of general ability, as a share of 1
    category_margin: float  # accepted loss in one of its categories
    score: Score  # in which gains and margins are tested
    margin_scale: MarginScale  # of both margins and of min_domain_gain
    min_domain_gain: float  # which the domain must exceed
    not_measured: Sequence[str]  # general categories that may be too close to chance to be judged
    bits_per_byte_margin: float  # accepted rise for general text, as a share of the base's
    kl_margin: float  # accepted divergence from the base, in bits per token
    # Level of the verdict (lmadapt.verdict.looks.verdict_level); intervals have confidence
    # 1 - 2 * significance.
    significance: float
    at_any_look: bool = False  # whether the tests hold however often one looks
    batch_tokens: int  # scored at once
    max_new_tokens: int  # of a free answer
    lm_eval_tasks: Sequence[str] = ()
    answer_file: Path = ANSWER_FILE
