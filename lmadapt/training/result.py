"""What a training returns: its counts for the metrics file, and its curve for `dvc plots`."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pandas import DataFrame

from lmadapt.core.files import atomic_folder
from lmadapt.training.heldout import Evaluation

STEP_COLUMNS = ["step", "learning_rate", "gradient_norm", "loss", "domain", "replay"]
"""Columns of the curve; `loss`, `domain` and `replay` are in nats per labelled token."""
HELDOUT_COLUMNS = ["step", "heldout_domain", "heldout_general"]


@dataclass(frozen=True)
class TrainingResult:
    """Counts, curve and evaluations of a training, also of the steps before an interruption."""

    tokens: int
    loss_tokens: int
    trainable_parameters: int
    steps: list[dict[str, float]]  # one a step, with the names in STEP_COLUMNS
    heldout: list[Evaluation]
    kept_step: int  # the model has the weights after this step

    def metrics(self) -> dict[str, Any]:
        """Counts, and the mean loss in the first and last tenth of the steps.

        Losses are in nats per labelled token.
        """
        losses = [step["loss"] for step in self.steps]
        tenth = max(1, len(losses) // 10)
        return {
            "tokens": self.tokens,
            "loss_tokens": self.loss_tokens,
            "trainable_parameters": self.trainable_parameters,
            "steps": len(losses),
            "loss_first": round(sum(losses[:tenth]) / tenth, 4),
            "loss_last": round(sum(losses[-tenth:]) / tenth, 4),
            "kept_step": self.kept_step,
            "heldout_bits_per_byte": [_rounded(evaluation) for evaluation in self.heldout],
        }

    def write_curve(self, folder: Path) -> None:
        """Write `loss.tsv`, a line per step, and `heldout.tsv`, a line per evaluation."""
        tables = {
            "loss": DataFrame(self.steps, columns=STEP_COLUMNS),
            "heldout": DataFrame(self.heldout, columns=HELDOUT_COLUMNS),
        }
        with atomic_folder(folder) as temporary:
            for name, table in tables.items():
                table.to_csv(temporary / f"{name}.tsv", sep="\t", float_format="%.6g", index=False)


def step_records(log_history: list[dict[str, float]]) -> list[dict[str, float]]:
    """One record per step, with the names in STEP_COLUMNS, from the history of a Trainer."""
    records = []
    for entry in log_history:
        if "loss" in entry:
            record = {"gradient_norm": entry["grad_norm"]}
            record |= {name: entry[name] for name in STEP_COLUMNS if name in entry}
            records.append(record)
    return records


def _rounded(evaluation: Evaluation) -> Evaluation:
    return {name: round(value, 6) for name, value in evaluation.items()}
