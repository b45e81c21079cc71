"""The jobs of benchmarks/train.py: `python -m benchmarks.train_workers JOBS`.

JOBS is a JSON list of jobs: a kind, and the arguments of its function below. The last line of the
output is a JSON list of what they found, with the peak memory of the process so far.
"""

import json
import resource
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from lmadapt.core.environment import prepare_environment

prepare_environment(offline=True)

import torch  # noqa: E402
from transformers import TrainerCallback  # noqa: E402

from lmadapt.core.tables import INSTRUCTION, read_table  # noqa: E402
from lmadapt.models.chat import IGNORED, Encoded  # noqa: E402
from lmadapt.models.loading import (  # noqa: E402
    load_bf16,
    load_nf4,
    load_tokenizer,
    load_unpacked_nf4,
)
from lmadapt.training.adapters import add_lora  # noqa: E402
from lmadapt.training.encoding import encode_instructions  # noqa: E402
from lmadapt.training.loop import train  # noqa: E402
from lmadapt.training.packing import pack  # noqa: E402
from lmadapt.training.replay import mix_replay  # noqa: E402
from lmadapt.training.trainer import TrainSettings  # noqa: E402

ROW_TOKENS = 512
ROWS_PER_STEP = 4
STOCK_BATCH = 8
STOCK_ACCUMULATION = 8  # 64 of the demo's examples have about as many tokens as four packed rows
LORA = {"rank": 16, "alpha": 32, "seed": 0}
LEARNING_RATE = 2e-4


class Clock(TrainerCallback):
    """Seconds from the start to the end of training, and the loss of each step."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self.losses: list[float] = []

    def on_train_begin(self, args: Any, state: Any, control: Any, **others: Any) -> None:
        """Start the clock."""
        self.began = time.perf_counter()

    def on_log(
        self,
        args: Any,
        state: Any,
        control: Any,
        logs: dict[str, float] | None = None,
        **others: Any,
    ) -> None:
        """Keep the loss."""
        if logs and "loss" in logs:
            self.losses.append(logs["loss"])

    def on_train_end(self, args: Any, state: Any, control: Any, **others: Any) -> None:
        """Stop the clock."""
        self.seconds = time.perf_counter() - self.began


class SaveEveryStep(TrainerCallback):
    """Has a checkpoint written after each step; keeps its seconds and bytes."""

    def __init__(self) -> None:
        self.written: list[dict[str, Any]] = []

    def on_step_end(self, args: Any, state: Any, control: Any, **others: Any) -> None:
        """Ask for a checkpoint."""
        control.should_save = True
        self.began = time.perf_counter()

    def on_save(self, args: Any, state: Any, control: Any, **others: Any) -> None:
        """Measure the checkpoint."""
        folder = Path(args.output_dir) / f"checkpoint-{state.global_step}"
        size = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
        self.written.append({"seconds": time.perf_counter() - self.began, "bytes": size})


def make_project(project: Path) -> dict[str, Any]:
    """Write a tiny model and instructions where the demo leaves its own."""
    from tests.tables import write_instructions
    from tests.tiny import make_tiny_model

    for name in ("base", "pretrained"):
        make_tiny_model(project / "models" / name)
    curated = project / "data/curated"
    curated.mkdir(parents=True)
    write_instructions(curated)
    return {}


def examples(project: Path, tokens: int) -> list[Any]:
    """The first examples of the demo's fine-tuning mixture, with `tokens` tokens in all."""
    tokenizer = load_tokenizer(project / "models/pretrained")

    def encoded(table: str) -> list[Any]:
        rows = read_table(project / f"data/curated/{table}.parquet", INSTRUCTION).to_pylist()
        return encode_instructions(tokenizer, rows, max_tokens=ROW_TOKENS).fitting

    domain, replay = encoded("instructions"), encoded("replay_instructions")
    return mix_replay(domain, replay, fraction=0.2, max_tokens=tokens, seed=0).examples


def count_tokens(found: Sequence[Any]) -> int:
    """The tokens of all examples together."""
    return sum(len(example.input_ids) for example in found)


def train_ours(project: Path, tokens: int) -> dict[str, Any]:
    """Our loop, as the stage `sft` calls it."""
    found = examples(project, tokens)
    rows = pack(found, max_tokens=ROW_TOKENS, rows_per_step=ROWS_PER_STEP)
    model = add_lora(load_unpacked_nf4(project / "models/pretrained"), **LORA)
    return timed_training(model, rows, ROWS_PER_STEP) | {"tokens": count_tokens(found)}


def timed_training(
    model: Any, rows: Sequence[Any], rows_per_step: int, *callbacks: TrainerCallback
) -> dict[str, Any]:
    """Train on the rows; seconds and losses."""
    clock = Clock()
    with tempfile.TemporaryDirectory() as folder:
        train(
            model,
            rows,
            TrainSettings(rows_per_step=rows_per_step, learning_rate=LEARNING_RATE),
            checkpoints=Path(folder),
            callbacks=[clock, *callbacks],
        )
    return {"seconds": clock.seconds, "losses": clock.losses}


def train_trl(project: Path, tokens: int, *, packed: bool) -> dict[str, Any]:
    """TRL's SFTTrainer on the same token ids and labels: as its scripts set it up, or `packed`.

    Packed is also tuned by hand: best-fit packing into rows of our length, as many a step as ours,
    and no activation checkpointing, which is on by default and costs a third of the speed on a CPU.
    """
    from datasets import Dataset
    from trl import SFTConfig, SFTTrainer

    found = examples(project, tokens)
    masks = [[int(label != IGNORED) for label in example.labels] for example in found]
    ids = [example.input_ids for example in found]
    data = Dataset.from_dict({"input_ids": ids, "completion_mask": masks})
    model = add_lora(load_nf4(project / "models/pretrained"), **LORA)
    clock = Clock()
    stock = {"gradient_accumulation_steps": STOCK_ACCUMULATION}
    tuned = {
        "packing": True,
        "gradient_accumulation_steps": ROWS_PER_STEP,
        "gradient_checkpointing": False,
    }
    with tempfile.TemporaryDirectory() as folder:
        config = SFTConfig(
            output_dir=folder,
            per_device_train_batch_size=1 if packed else STOCK_BATCH,
            completion_only_loss=True,
            max_length=ROW_TOKENS,
            num_train_epochs=1,
            learning_rate=LEARNING_RATE,
            bf16=True,
            use_cpu=not torch.cuda.is_available(),
            dataloader_pin_memory=torch.cuda.is_available(),
            logging_steps=1,
            save_strategy="no",
            report_to="none",
            disable_tqdm=True,
            **(tuned if packed else stock),
        )
        tokenizer = load_tokenizer(project / "models/pretrained")
        SFTTrainer(
            model, args=config, train_dataset=data, processing_class=tokenizer, callbacks=[clock]
        ).train()
    return {"tokens": count_tokens(found), "seconds": clock.seconds, "losses": clock.losses}


def make_model(folder: Path, shape: dict[str, int]) -> dict[str, Any]:
    """Write a randomly initialised Llama of the shape, without a tokenizer."""
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    model = LlamaForCausalLM(LlamaConfig(**shape, tie_word_embeddings=True))
    model.to(torch.bfloat16).save_pretrained(folder)
    return {}


def train_planned(
    folder: Path, method: str, row_tokens: int, rank: int, labelled: float
) -> dict[str, Any]:
    """Three steps of two full rows of random tokens; the share `labelled` of them carries loss."""
    vocabulary = json.loads((folder / "config.json").read_text())["vocab_size"]
    generator = torch.Generator().manual_seed(0)
    # A stage keeps its tokenizer in memory until its end, so this one does too.
    tokenizer = load_tokenizer(folder) if (folder / "tokenizer_config.json").is_file() else None
    documents = []
    for _ in range(6):
        tokens = torch.randint(3, vocabulary, (row_tokens,), generator=generator).tolist()
        carries = (torch.rand(row_tokens, generator=generator) < labelled).tolist()
        labels = [token if carry else IGNORED for token, carry in zip(tokens, carries, strict=True)]
        documents.append(Encoded(tokens, labels))
    rows = pack(documents, max_tokens=row_tokens, rows_per_step=2)
    if method == "full":
        model = load_bf16(folder).float()
    else:
        load = load_unpacked_nf4 if method == "qlora" else load_bf16
        model = add_lora(load(folder), rank=rank, alpha=2 * rank, seed=0)
    return timed_training(model, rows, 2) | {"tokenizer": type(tokenizer).__name__}


def time_checkpoints(project: Path) -> dict[str, Any]:
    """Seconds that each checkpoint of the demo's fine-tuning takes, and its bytes."""
    rows = pack(examples(project, 3000), max_tokens=ROW_TOKENS, rows_per_step=1)
    model = add_lora(load_unpacked_nf4(project / "models/pretrained"), **LORA)
    saving = SaveEveryStep()
    timed_training(model, rows, 1, saving)
    return {"checkpoints": saving.written}


WORK: dict[str, Callable[..., dict[str, Any]]] = {
    "project": make_project,
    "ours": train_ours,
    "trl": train_trl,
    "make": make_model,
    "planned": train_planned,
    "checkpoint": time_checkpoints,
}


def do(kind: str, **arguments: Any) -> dict[str, Any]:
    """Do one job; what it found, with the peak memory of this process and its seconds so far."""
    for name in ("project", "folder"):
        if name in arguments:
            arguments[name] = Path(arguments[name])
    result = WORK[kind](**arguments)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    seconds = time.perf_counter() - PROCESS_BEGAN
    return result | {"peak_bytes": peak, "process_seconds": seconds}


if __name__ == "__main__":
    PROCESS_BEGAN = time.perf_counter()
    found = [do(**job) for job in json.loads(sys.argv[1])]
    print("\n" + json.dumps(found))
