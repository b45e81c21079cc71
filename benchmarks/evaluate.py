"""Our scorer against lm-evaluation-harness: the demo's multiple-choice items, the same model, the same tokens.

Needs `dvc repro validate` (the model and the items). Loading the model and building the task are start-up: left out and
stated apart; both tokenise within the time measured. The items are dealt into blocks, each put to ours and then to the
harness, which runs at its fastest batch size; ratios are of all blocks together, and each block's stands in the rows.
"""

import argparse
import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.record import write_results
from lmadapt.core.environment import prepare_environment
from lmadapt.core.tables import ITEM, read_table
from lmadapt.evaluation.exam import make_exam
from lmadapt.models.loading import load_bf16, load_tokenizer
from lmadapt.models.log_likelihoods import score
from lmadapt.models.questions import choose

TASK = {
    "task": "demo_items",
    "dataset_path": "json",
    "validation_split": "validation",
    "output_type": "multiple_choice",
    "doc_to_text": "{{text}}",
    "doc_to_choice": "choices",
    "doc_to_target": "answer",
    "target_delimiter": "",
    "metric_list": [{"metric": "acc"}, {"metric": "acc_norm"}],
}
BATCH_TOKENS = 2048
PEER_BATCH_SIZES = (1, 4, 16)
SHORT_WORDS = 20  # a short question has at most as many
SETS = ("whole set", "short questions")


def main() -> None:
    """Run everything and write the results."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, default=Path("models/base"))
    parser.add_argument("--items", type=Path, default=Path("data/curated/items.parquet"))
    parser.add_argument("--blocks", type=int, default=3)
    parser.add_argument("--precise-items", type=int, default=150, help="items compared in fp32")
    arguments = parser.parse_args()
    prepare_environment(offline=True)
    start = time.perf_counter()
    model, tokenizer = load_bf16(arguments.model), load_tokenizer(arguments.model)
    load_seconds = time.perf_counter() - start
    rows = [
        row for row in read_table(arguments.items, ITEM).to_pylist() if row["answer"] is not None
    ]
    sets = {
        "whole set": rows,
        "short questions": [
            r for r in rows if len(r["prompt"].split()) <= SHORT_WORDS and len(r["choices"]) == 4
        ],
    }
    with tempfile.TemporaryDirectory() as folder:
        trial = Peer(model, tokenizer, rows[:: max(1, len(rows) // 60)], Path(folder) / "trial")
        batch_size = min(PEER_BATCH_SIZES, key=lambda size: trial.run(size)[0])
        found = []
        for name, chosen in sets.items():
            for block in range(arguments.blocks):
                part = chosen[block :: arguments.blocks]
                peer = Peer(model, tokenizer, part, Path(folder) / f"{name} {block}")
                found.append(compare(name, tokenizer, part, peer, model, batch_size))
        few = rows[:: max(1, len(rows) // arguments.precise_items)]
        precise = model.float()
        row = compare(
            "fp32",
            tokenizer,
            few,
            Peer(precise, tokenizer, few, Path(folder) / "fp32"),
            precise,
            batch_size,
        )
    ratios = {name: _ratio([row for row in found if row["set"] == name]) for name in SETS}
    write_results(
        "evaluate",
        {
            "items_vs_lm_eval": ratios["whole set"],
            "short_items_vs_lm_eval": ratios["short questions"],
            "loglikelihood_difference_max": row["loglikelihood_difference_max"],
            "same_choice_fp32": row["same_choice"],
        },
        rows=[
            *found,
            row,
            {
                "load_seconds": load_seconds,
                "lm_eval_batch_size": batch_size,
                "torch_threads": torch.get_num_threads(),
            },
        ],
        packages=("torch", "transformers", "lm_eval", "numpy"),
        seeds=[0],
        repetitions=arguments.blocks,
    )


class Peer:
    """lm-evaluation-harness with one task made of our items, on the same model object."""

    def __init__(
        self, model: Any, tokenizer: Any, rows: list[dict[str, Any]], folder: Path
    ) -> None:
        from lm_eval.tasks import TaskManager

        folder.mkdir()
        with (folder / "items.json").open("w") as file:
            for row in rows:
                text = tokenizer.apply_chat_template(
                    [{"role": "user", "content": row["prompt"]}],
                    tokenize=False,
                    add_generation_prompt=True,
                )
                choices = [f" {choice.strip()}" for choice in row["choices"]]
                file.write(
                    json.dumps({"text": text, "choices": choices, "answer": row["answer"]}) + "\n"
                )
        task = TASK | {"dataset_kwargs": {"data_files": {"validation": str(folder / "items.json")}}}
        (folder / "demo_items.yaml").write_text(json.dumps(task))
        self.model, self.tokenizer = model, tokenizer
        self.tasks = TaskManager(include_path=str(folder), include_defaults=False)

    def run(self, batch_size: int) -> tuple[float, list[dict[str, Any]]]:
        """Seconds the harness took to tokenise and score, and its samples in the order of the items."""
        from lm_eval import simple_evaluate
        from lm_eval.models.huggingface import HFLM

        seconds = []

        class Timed(HFLM):
            def loglikelihood(self, *arguments: Any, **named: Any) -> Any:
                taken, answers = timed(lambda: HFLM.loglikelihood(self, *arguments, **named))
                seconds.append(taken)
                return answers

        # The text begins with the template's own first token.
        peer = Timed(
            pretrained=self.model,
            tokenizer=self.tokenizer,
            batch_size=batch_size,
            add_bos_token=False,
        )
        found = simple_evaluate(
            peer, tasks=["demo_items"], task_manager=self.tasks, bootstrap_iters=0
        )
        return sum(seconds), sorted(
            found["samples"]["demo_items"], key=lambda sample: sample["doc_id"]
        )


def _ratio(rows: list[dict[str, Any]]) -> float:
    return float(
        sum(row["lm_eval_seconds"] for row in rows) / sum(row["ours_seconds"] for row in rows)
    )


def compare(
    name: str, tokenizer: Any, rows: list[dict[str, Any]], peer: Peer, model: Any, batch_size: int
) -> dict[str, Any]:
    """Both on the same items, ours first."""
    encode_seconds, exam = timed(lambda: make_exam(rows, [], tokenizer, heldout_tokens=1, seed=0))
    questions = [question for question in exam.questions if question]
    ours_seconds, ours = timed(lambda: score(lambda: model, questions, batch_tokens=BATCH_TOKENS))
    ours_seconds += encode_seconds
    theirs_seconds, samples = peer.run(batch_size)
    by_id = {item["id"]: (values, item) for values, item in zip(ours, exam.items, strict=True)}
    pairs = [(*by_id[row["id"]], sample) for row, sample in zip(rows, samples, strict=True)]
    theirs = [[float(response[0][0]) for response in sample["resps"]] for *_, sample in pairs]
    differences = [
        np.abs(np.array(o) - np.array(t)).max() for (o, *_), t in zip(pairs, theirs, strict=True)
    ]
    likeliest = [int(np.argmax(values)) == item["answer"] for values, item, _ in pairs]
    per_byte = [choose(values, item["choices"]) == item["answer"] for values, item, _ in pairs]
    return {
        "set": name,
        "items": len(rows),
        "ours_seconds": ours_seconds,
        "lm_eval_seconds": theirs_seconds,
        "ours_items_per_second": len(rows) / ours_seconds,
        "lm_eval_items_per_second": len(rows) / theirs_seconds,
        "ratio": theirs_seconds / ours_seconds,
        "ours_accuracy": float(np.mean(likeliest)),
        "lm_eval_accuracy": float(np.mean([sample["acc"] for *_, sample in pairs])),
        "ours_accuracy_per_byte": float(np.mean(per_byte)),
        "lm_eval_accuracy_per_character": float(
            np.mean([sample["acc_norm"] for *_, sample in pairs])
        ),
        "same_choice": float(
            np.mean([r == bool(s["acc"]) for r, (*_, s) in zip(likeliest, pairs, strict=True)])
        ),
        "loglikelihood_difference_max": float(max(differences)),
        "loglikelihood_difference_median": float(np.median(differences)),
    }


def timed(work: Callable[[], Any]) -> tuple[float, Any]:
    """Seconds of wall time, and what the work gave."""
    start = time.perf_counter()
    result = work()
    return time.perf_counter() - start, result


if __name__ == "__main__":
    main()
