"""What benchmarks.train runs, each in a process of its own: one JSON line on the standard output with what it found."""

import json
import resource
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from lmadapt.core.environment import prepare_environment

prepare_environment(offline=True)

import torch  # noqa: E402
from transformers import TrainerCallback  # noqa: E402

from lmadapt.models.chat import IGNORED, Encoded  # noqa: E402
from lmadapt.models.loading import load_bf16, load_nf4, load_tokenizer, load_unpacked_nf4  # noqa: E402
from lmadapt.training.adapters import add_lora  # noqa: E402
from lmadapt.training.loop import train  # noqa: E402
from lmadapt.training.packing import pack  # noqa: E402
from lmadapt.training.trainer import TrainSettings  # noqa: E402

ROW_TOKENS = 512
ROWS_PER_STEP = 4
STOCK_BATCH = 8
STOCK_ACCUMULATION = 8  # 64 of the demo's examples hold about as many tokens as four packed rows
LORA = {"rank": 16, "alpha": 32, "seed": 0}
LEARNING_RATE = 2e-4


class Clock(TrainerCallback):
    """Seconds between the beginning and the end of training, and loss of each step."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self.losses: list[float] = []

    def on_train_begin(self, args: Any, state: Any, control: Any, **others: Any) -> None:
        """Start."""
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
        self.losses += [logs["loss"]] if logs and "loss" in logs else []

    def on_train_end(self, args: Any, state: Any, control: Any, **others: Any) -> None:
        """Stop."""
        self.seconds = time.perf_counter() - self.began


def examples(project: Path, tokens: int) -> list[Any]:
    """The first examples of the demo's fine-tuning mixture, `tokens` tokens of them."""
    from lmadapt.core.tables import INSTRUCTION, read_table
    from lmadapt.training.encoding import encode_instructions
    from lmadapt.training.replay import mix_replay

    tokenizer = load_tokenizer(project / "models/pretrained")
    domain, replay = (
        encode_instructions(
            tokenizer,
            read_table(project / f"data/curated/{table}.parquet", INSTRUCTION).to_pylist(),
            max_tokens=ROW_TOKENS,
        )[0]
        for table in ("instructions", "replay_instructions")
    )
    return mix_replay(domain, replay, fraction=0.2, max_tokens=tokens, seed=0).examples


def ours(project: Path, tokens: int) -> dict[str, Any]:
    """Our loop as the stage `sft` calls it."""
    found = examples(project, tokens)
    rows = pack(found, max_tokens=ROW_TOKENS, rows_per_step=ROWS_PER_STEP)
    model = add_lora(load_unpacked_nf4(project / "models/pretrained"), **LORA)
    return run_ours(model, rows, ROWS_PER_STEP) | {"tokens": sum(len(e.input_ids) for e in found)}


def run_ours(model: Any, rows: list[Any], rows_per_step: int, **options: Any) -> dict[str, Any]:
    """Train on the rows; seconds and losses."""
    clock = Clock()
    with tempfile.TemporaryDirectory() as folder:
        train(
            model,
            rows,
            TrainSettings(rows_per_step=rows_per_step, learning_rate=LEARNING_RATE, **options),
            checkpoints=Path(folder),
            callbacks=[clock],
        )
    return {"seconds": clock.seconds, "losses": clock.losses}


def trl(project: Path, tokens: int, *, packed: bool) -> dict[str, Any]:
    """TRL's SFTTrainer on the same token ids and labels: as its scripts set it up, or packed and tuned by hand.

    Tuned: best-fit packing in rows of the same length, as many as ours in a step, and no activation checkpointing,
    which on a CPU costs a third of the speed and is on by default.
    """
    from datasets import Dataset
    from trl import SFTConfig, SFTTrainer

    found = examples(project, tokens)
    masks = [[int(label != IGNORED) for label in example.labels] for example in found]
    data = Dataset.from_dict({"input_ids": [e.input_ids for e in found], "completion_mask": masks})
    model = add_lora(load_nf4(project / "models/pretrained"), **LORA)
    clock = Clock()
    settings = (
        {
            "packing": True,
            "gradient_accumulation_steps": ROWS_PER_STEP,
            "gradient_checkpointing": False,
        }
        if packed
        else {"gradient_accumulation_steps": STOCK_ACCUMULATION}
    )
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
            **settings,
        )
        tokenizer = load_tokenizer(project / "models/pretrained")
        SFTTrainer(
            model, args=config, train_dataset=data, processing_class=tokenizer, callbacks=[clock]
        ).train()
    used = sum(len(example.input_ids) for example in found)
    return {"tokens": used, "seconds": clock.seconds, "losses": clock.losses}


def make_model(folder: Path, shape: dict[str, int]) -> dict[str, Any]:
    """Write a randomly initialised Llama of the shape; without a tokenizer."""
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    LlamaForCausalLM(LlamaConfig(**shape, tie_word_embeddings=True)).to(
        torch.bfloat16
    ).save_pretrained(folder)
    return {}


def planned(
    folder: Path, method: str, row_tokens: int, rank: int, labelled: float
) -> dict[str, Any]:
    """Three steps of two full rows of random tokens, of which the share `labelled`, spread out, carries loss."""
    vocabulary = json.loads((folder / "config.json").read_text())["vocab_size"]
    generator = torch.Generator().manual_seed(0)
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
    # A stage keeps its tokenizer in memory to the end.
    return run_ours(model, rows, 2) | {"tokenizer": type(tokenizer).__name__}


def checkpoint(project: Path) -> dict[str, Any]:
    """Seconds that each checkpoint of the demo's fine-tuning takes, and its bytes."""
    written: list[dict[str, Any]] = []

    class Save(TrainerCallback):
        def on_step_end(self, args: Any, state: Any, control: Any, **others: Any) -> None:
            control.should_save = True
            self.began = time.perf_counter()

        def on_save(self, args: Any, state: Any, control: Any, **others: Any) -> None:
            folder = Path(args.output_dir) / f"checkpoint-{state.global_step}"
            size = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
            written.append({"seconds": time.perf_counter() - self.began, "bytes": size})

    rows = pack(examples(project, 3000), max_tokens=ROW_TOKENS, rows_per_step=1)
    model = add_lora(load_unpacked_nf4(project / "models/pretrained"), **LORA)
    with tempfile.TemporaryDirectory() as folder:
        train(
            model,
            rows,
            TrainSettings(rows_per_step=1, learning_rate=LEARNING_RATE),
            checkpoints=Path(folder),
            callbacks=[Save()],
        )
    return {"checkpoints": written}


if __name__ == "__main__":
    job = json.loads(sys.argv[1])
    kind, arguments = (
        job.pop("kind"),
        {k: Path(v) if k in ("project", "folder") else v for k, v in job.items()},
    )
    began = time.perf_counter()
    work = {
        "ours": ours,
        "trl": trl,
        "make": make_model,
        "planned": planned,
        "checkpoint": checkpoint,
    }
    result = work[kind](**arguments)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    print(
        "\n"
        + json.dumps(result | {"peak_bytes": peak, "process_seconds": time.perf_counter() - began})
    )
