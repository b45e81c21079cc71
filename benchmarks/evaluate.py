"""Our scoring of multiple-choice items against lm-evaluation-harness: same model, same tokens.

Needs `dvc repro validate` for the demo's model and items. The items are dealt into blocks; each
block goes to ours and then to the harness, which runs at its fastest batch size. The time includes
tokenising, and leaves out loading the model and building the task. A ratio is of all blocks
together; the rows hold each block's. Choices are compared once more in fp32, where the two may
differ only by rounding. Takes about 15 minutes on two cores; writes
benchmarks/results/evaluate.json.
"""

import argparse
import json
import os
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.record import benchmark_parser, write_results
from lmadapt.core.environment import prepare_environment
from lmadapt.core.tables import ITEM, read_table, write_table
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
TRIAL_ITEMS = 60  # on which the peer's batch size is chosen
SHORT_WORDS = 20  # a short question has at most this many
SETS = ("whole set", "short questions")
Items = Sequence[dict[str, Any]]


def main() -> None:
    """Measure, and write the results."""
    parser = benchmark_parser("evaluate", __doc__)
    parser.add_argument("--model", type=Path, default=Path("models/base"))
    parser.add_argument("--items", type=Path, default=Path("data/curated/items.parquet"))
    parser.add_argument("--blocks", type=int, default=3, help="of each set of items (%(default)s)")
    parser.add_argument(
        "--precise-items", type=int, default=150, help="items compared in fp32 (%(default)s)"
    )
    parser.add_argument(
        "--batch-sizes",
        type=int,
        nargs="+",
        default=[1, 4, 16],
        help="of the harness, of which the fastest is used",
    )
    arguments = parser.parse_args()
    prepare_environment(offline=True)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if arguments.smoke:
            make_small(arguments, folder)
        # Where the harness keeps the items it reads: nothing of ours stays in the user's home.
        os.environ["HF_DATASETS_CACHE"] = str(folder / "datasets")
        measure(arguments, folder)


def make_small(arguments: argparse.Namespace, folder: Path) -> None:
    """Point the arguments to a tiny model and a few items."""
    from tests.planted import make_items
    from tests.tiny import make_tiny_model

    arguments.model = make_tiny_model(folder / "tiny")
    arguments.items = folder / "items.parquet"
    write_table(make_items()[::15], ITEM, arguments.items)
    arguments.blocks, arguments.precise_items = 1, 4
    arguments.batch_sizes = [4]


def measure(arguments: argparse.Namespace, folder: Path) -> None:
    """Compare both sets of items block by block, then a few items in fp32."""
    load_seconds, model = timed(lambda: load_bf16(arguments.model))
    tokenizer = load_tokenizer(arguments.model)
    sets = read_sets(arguments.items)
    everything = sets["whole set"]
    trial = Peer(model, tokenizer, every_nth(everything, TRIAL_ITEMS), folder / "trial")
    batch_size = min(arguments.batch_sizes, key=lambda size: trial.run(size).seconds)
    found = []
    for name, chosen in sets.items():
        for block in range(arguments.blocks):
            part = chosen[block :: arguments.blocks]
            peer = Peer(model, tokenizer, part, folder / f"{name} {block}")
            found.append(compare(name, peer, batch_size))
    few = every_nth(everything, arguments.precise_items)
    precise = compare("fp32", Peer(model.float(), tokenizer, few, folder / "fp32"), batch_size)
    ratios = {name: ratio([row for row in found if row["set"] == name]) for name in SETS}
    circumstances = {
        "load_seconds": load_seconds,
        "lm_eval_batch_size": batch_size,
        "torch_threads": torch.get_num_threads(),
    }
    write_results(
        "evaluate",
        arguments,
        {
            "items_vs_lm_eval": ratios["whole set"],
            "short_items_vs_lm_eval": ratios["short questions"],
            "loglikelihood_difference_max": precise["loglikelihood_difference_max"],
            "same_choice_fp32": precise["same_choice"],
        },
        rows=[*found, precise, circumstances],
        packages=("torch", "transformers", "lm_eval", "numpy"),
        seeds=[0],
        repetitions=arguments.blocks,
    )


def read_sets(file: Path) -> dict[str, Items]:
    """The multiple-choice items: all of them, and the short four-way questions."""
    rows = [row for row in read_table(file, ITEM).to_pylist() if row["answer"] is not None]
    short = [
        row
        for row in rows
        if len(row["prompt"].split()) <= SHORT_WORDS and len(row["choices"]) == 4
    ]
    return dict(zip(SETS, (rows, short), strict=True))


def every_nth(items: Items, count: int) -> Items:
    """About `count` of the items, at equal distances."""
    return items[:: max(1, len(items) // count)]


@dataclass(frozen=True)
class PeerRun:
    """Seconds the harness took to tokenise and score, and its samples in the order of the items."""

    seconds: float
    samples: list[dict[str, Any]]


class Peer:
    """lm-evaluation-harness on the same model object, with one task made of our items."""

    def __init__(self, model: Any, tokenizer: Any, items: Items, folder: Path) -> None:
        try:
            from lm_eval.tasks import TaskManager
        except ImportError:
            raise SystemExit("lm-eval is not installed: pip install 'lmadapt[harness]'") from None

        folder.mkdir()
        self.model, self.tokenizer, self.items = model, tokenizer, items
        with (folder / "items.json").open("w") as file:
            for item in items:
                file.write(json.dumps(self._document(item)) + "\n")
        task = TASK | {"dataset_kwargs": {"data_files": {"validation": str(folder / "items.json")}}}
        (folder / "demo_items.yaml").write_text(json.dumps(task))
        self.tasks = TaskManager(include_path=str(folder), include_defaults=False)

    def _document(self, item: dict[str, Any]) -> dict[str, Any]:
        text = self.tokenizer.apply_chat_template(
            [{"role": "user", "content": item["prompt"]}],
            tokenize=False,
            add_generation_prompt=True,
        )
        choices = [f" {choice.strip()}" for choice in item["choices"]]
        return {"text": text, "choices": choices, "answer": item["answer"]}

    def run(self, batch_size: int) -> PeerRun:
        """Score the items."""
        from lm_eval import evaluate
        from lm_eval.models.huggingface import HFLM

        seconds = []

        class Timed(HFLM):
            def loglikelihood(self, *arguments: Any, **named: Any) -> Any:
                taken, answers = timed(lambda: HFLM.loglikelihood(self, *arguments, **named))
                seconds.append(taken)
                return answers

        peer = Timed(
            pretrained=self.model,
            tokenizer=self.tokenizer,
            batch_size=batch_size,
            add_bos_token=False,  # the chat template already starts with it
        )
        # `simple_evaluate` would also describe the machine, which takes seconds each time.
        found = evaluate(peer, self.tasks.load(["demo_items"]), bootstrap_iters=0)
        samples = found["samples"]["demo_items"]
        return PeerRun(sum(seconds), sorted(samples, key=lambda sample: sample["doc_id"]))


def ratio(rows: list[dict[str, Any]]) -> float:
    """The harness's seconds over ours, of all rows together."""
    theirs, ours = ([row[f"{who}_seconds"] for row in rows] for who in ("lm_eval", "ours"))
    return float(sum(theirs) / sum(ours))


def compare(name: str, peer: Peer, batch_size: int) -> dict[str, Any]:
    """Ours and then the harness on the peer's items: speed, accuracy, and how far scores differ."""
    rows = peer.items
    encode_seconds, exam = timed(
        lambda: make_exam(rows, [], peer.tokenizer, heldout_tokens=1, seed=0)
    )
    questions = [question for question in exam.questions if question]
    score_seconds, ours = timed(
        lambda: score(lambda: peer.model, questions, batch_tokens=BATCH_TOKENS)
    )
    ours_seconds = encode_seconds + score_seconds
    run = peer.run(batch_size)
    by_id = {item["id"]: values for values, item in zip(ours, exam.items, strict=True)}
    values = [by_id[row["id"]] for row in rows]
    theirs = [[float(response[0][0]) for response in sample["resps"]] for sample in run.samples]
    differences = [
        float(np.abs(np.array(mine) - np.array(other)).max())
        for mine, other in zip(values, theirs, strict=True)
    ]
    answers = [row["answer"] for row in rows]
    likeliest = np.array([int(np.argmax(one)) for one in values]) == answers
    per_byte = [choose(one, row["choices"]) for one, row in zip(values, rows, strict=True)]
    their_likeliest = np.array([bool(sample["acc"]) for sample in run.samples])
    return {
        "set": name,
        "items": len(rows),
        "ours_seconds": ours_seconds,
        "lm_eval_seconds": run.seconds,
        "ours_items_per_second": len(rows) / ours_seconds,
        "lm_eval_items_per_second": len(rows) / run.seconds,
        "ratio": run.seconds / ours_seconds,
        "ours_accuracy": float(np.mean(likeliest)),
        "lm_eval_accuracy": float(np.mean([sample["acc"] for sample in run.samples])),
        "ours_accuracy_per_byte": float(np.mean(np.array(per_byte) == answers)),
        "lm_eval_accuracy_per_character": float(
            np.mean([sample["acc_norm"] for sample in run.samples])
        ),
        "same_choice": float(np.mean(likeliest == their_likeliest)),
        "loglikelihood_difference_max": max(differences),
        "loglikelihood_difference_median": float(np.median(differences)),
    }


def timed(work: Callable[[], Any]) -> tuple[float, Any]:
    """Seconds of wall time that the work takes, and its result."""
    start = time.perf_counter()
    result = work()
    return time.perf_counter() - start, result


if __name__ == "__main__":
    main()
