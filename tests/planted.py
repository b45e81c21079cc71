"""Evaluation items, held-out text and adapters whose effect is known, for tests of the evaluation."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from peft import LoraConfig, get_peft_model

from lmadapt.core.tables import HELDOUT, ITEM, write_table
from lmadapt.models.loading import load_bf16

Row = dict[str, Any]
ITEMS_PER_CATEGORY = 60  # a half has enough for the verdict
LETTERS = list("bdfghjkmpqvxz")  # choices of four letters: a random model prefers none by length
CATEGORIES = {"weaknesses": "domain", "capitals": "general", "sums": "general"}
HOSTILE = "<script>alert('x')</script><img src=x onerror=alert(1)>"

TASK = """
task: capitals_task
dataset_path: json
dataset_kwargs:
  data_files: {{validation: {data}}}
validation_split: validation
output_type: multiple_choice
doc_to_text: "{{{{question}}}}"
doc_to_choice: choices
doc_to_target: answer
target_delimiter: " "
metric_list:
  - metric: acc
  - metric: acc_norm
metadata: {{version: 1}}
"""


def make_task(folder: Path, *, questions: int) -> str:
    """A task of lm-evaluation-harness over questions of its own; the path of its YAML file."""
    choices = ["Paris", "SQL injection", "a buffer"]
    rows = [
        {"question": f"What is the capital of number {n}?", "choices": choices, "answer": n % 3}
        for n in range(questions)
    ]
    (folder / "questions.json").write_text("\n".join(map(json.dumps, rows)))
    (folder / "capitals_task.yaml").write_text(TASK.format(data=folder / "questions.json"))
    return str(folder / "capitals_task.yaml")


def make_items() -> list[Row]:
    """60 four-way items in each of three categories, two behaviour checks, and four pairs of the fairness probe.

    Two items share a cluster.
    """
    rows, draw = [], np.random.default_rng(0)
    for category, group in CATEGORIES.items():
        for number in range(ITEMS_PER_CATEGORY):
            rows.append(
                {
                    "id": f"{category}/{number:03}",
                    "group": group,
                    "category": category,
                    "cluster": f"{category}-{number // 2}",
                    "prompt": f"What is {category} number {number}?"
                    + (HOSTILE if number < 8 else ""),
                    "choices": ["".join(draw.choice(LETTERS, 4)) for _ in range(4)],
                    "answer": number % 4,
                    "check": "",
                    "severity": "",
                }
            )
    for number, (severity, check) in enumerate(
        [
            ("critical", '{"kind": "regex", "pattern": "(?s).*"}'),
            ("minor", '{"kind": "number", "value": 7}'),
        ]
    ):
        rows.append(
            rows[0]
            | {
                "id": f"behaviour/{number}",
                "group": "behaviour",
                "category": "format",
                "choices": [],
                "answer": None,
            }
            | {"check": check, "severity": severity, "prompt": f"Say {number}.", "cluster": ""}
        )
    for number, work in enumerate(("nurse", "pilot", "baker", "judge")):
        texts = [f"The {work} said that {person} is late." for person in ("he", "she")]
        rows.append(
            rows[0]
            | {
                "id": f"fairness/{number}",
                "group": "fairness",
                "category": "gender",
                "choices": texts,
                "answer": None,
            }
            | {"prompt": "Say anything.", "cluster": work}
        )
    return [row | {"source": "planted", "location": str(place)} for place, row in enumerate(rows)]


def make_heldout() -> list[Row]:
    """Six documents of each group."""
    return [
        {
            "id": f"{group}/{number}",
            "text": f"The {group} document number {number} reads a buffer before checking its length. "
            * (number + 1),
            "entity": f"{group} {number // 2}",
            "source": "planted",
            "location": str(number),
            "group": group,
        }
        for group in ("domain", "general")
        for number in range(6)
    ]


def make_adapter(model_folder: Path, target: Path, *, noise: float) -> Path:
    """A LoRA adapter over every linear layer: zeros without `noise`, else of random weights of that size."""
    torch.manual_seed(1)
    model = get_peft_model(
        load_bf16(model_folder), LoraConfig(r=4, target_modules="all-linear", task_type="CAUSAL_LM")
    )
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=noise) if noise else torch.nn.init.zeros_(
                parameter
            )
    model.save_pretrained(target)
    return target


def make_inputs(folder: Path, items: list[Row]) -> dict[str, Path]:
    """The files `evaluate` reads beside its models, as its arguments name them."""
    paths = {name: folder / name for name in ("funnel", "pretrain_curve", "sft_curve")}
    write_table(items, ITEM, folder / "items.parquet")
    write_table(make_heldout(), HELDOUT, folder / "heldout.parquet")
    paths["funnel"].write_text(
        "stage,role,documents\nraw,corpus,100\nexact duplicates,corpus,80\nraw,evaluation,9\n"
    )
    for name in ("pretrain_curve", "sft_curve"):
        file = paths[name] / "metrics" / "train" / "loss.tsv"
        file.parent.mkdir(parents=True)
        file.write_text("step\tloss\n1\t4.5\n2\t3.5\n3\tnan\n4\t3.0\n")
    paths["validation"] = folder / "validate.json"
    paths["validation"].write_text('{"expectations": {"items: ids are unique": {"success": true}}}')
    return paths | {"items": folder / "items.parquet", "heldout": folder / "heldout.parquet"}
