"""The settings of an evaluation."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from lmadapt.evaluation.answer_cache import ANSWER_FILE


@dataclass(frozen=True, kw_only=True)
class EvaluationSettings:
    """How models are asked, and what counts as a loss; params.yaml describes each setting."""

    seed: int  # of the halves for the adapter scale, and of drawn text
    margin: float  # accepted loss of general ability, as a share of 1
    category_margin: float  # accepted loss in one of its categories
    significance: float  # level of the verdict; intervals have confidence 1 - 2 * significance
    batch_tokens: int  # scored at once
    max_new_tokens: int  # of a free answer
    lm_eval_tasks: Sequence[str] = ()
    answer_file: Path = ANSWER_FILE
