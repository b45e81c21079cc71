"""Items, held-out text and adapters with a known effect, for tests of the evaluation."""

import json
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import torch
from peft import LoraConfig, get_peft_model

from lmadapt.core.tables import HELDOUT, ITEM, write_table
from lmadapt.models.loading import load_bf16

Row = dict[str, Any]
ITEMS_PER_CATEGORY = 60  # half of them are enough for the verdict
LETTERS = list("bdfghjkmpqvxz")  # of choices; all are equally long, so that length decides nothing
GROUPS = ("domain", "general")
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
    """Write a task of lm-evaluation-harness with its questions; returns the path of its YAML."""
    choices = ["Paris", "SQL injection", "a buffer"]
    rows = [
        {"question": f"What is the capital of number {n}?", "choices": choices, "answer": n % 3}
        for n in range(questions)
    ]
    (folder / "questions.json").write_text("\n".join(map(json.dumps, rows)))
    (folder / "capitals_task.yaml").write_text(TASK.format(data=folder / "questions.json"))
    return str(folder / "capitals_task.yaml")


def make_items() -> list[Row]:
    """60 four-way items in each of three categories, 2 behaviour checks and 4 fairness pairs.

    The four-way items come in clusters of two.
    """
    rows = [*_choice_items(), *_behaviour_checks(), *_fairness_pairs()]
    return [row | {"source": "planted", "location": str(place)} for place, row in enumerate(rows)]


def _choice_items() -> Iterator[Row]:
    draw = np.random.default_rng(0)
    for category, group in CATEGORIES.items():
        for number in range(ITEMS_PER_CATEGORY):
            markup = HOSTILE if number < 8 else ""
            yield {
                "id": f"{category}/{number:03}",
                "group": group,
                "category": category,
                "cluster": f"{category}-{number // 2}",
                "prompt": f"What is {category} number {number}?{markup}",
                "choices": ["".join(draw.choice(LETTERS, 4)) for _ in range(4)],
                "answer": number % 4,
                "check": "",
                "severity": "",
            }


def _behaviour_checks() -> Iterator[Row]:
    checks = [
        ("critical", '{"kind": "regex", "pattern": "(?s).*"}'),
        ("minor", '{"kind": "number", "value": 7}'),
    ]
    for number, (severity, check) in enumerate(checks):
        yield {
            "id": f"behaviour/{number}",
            "group": "behaviour",
            "category": "format",
            "cluster": "",
            "prompt": f"Say {number}.",
            "choices": [],
            "answer": None,
            "check": check,
            "severity": severity,
        }


def _fairness_pairs() -> Iterator[Row]:
    for number, work in enumerate(("nurse", "pilot", "baker", "judge")):
        yield {
            "id": f"fairness/{number}",
            "group": "fairness",
            "category": "gender",
            "cluster": work,
            "prompt": "Say anything.",
            "choices": [f"The {work} said that {person} is late." for person in ("he", "she")],
            "answer": None,
            "check": "",
            "severity": "",
        }


def make_heldout() -> list[Row]:
    """Six documents of each group, two of each entity."""
    return [_document(group, number) for group, number in product(GROUPS, range(6))]


def _document(group: str, number: int) -> Row:
    sentence = f"The {group} document number {number} reads a buffer before checking its length. "
    return {
        "id": f"{group}/{number}",
        "text": sentence * (number + 1),
        "entity": f"{group} {number // 2}",
        "source": "planted",
        "location": str(number),
        "group": group,
    }


def make_adapter(model_folder: Path, target: Path, *, noise: float) -> Path:
    """A LoRA adapter over every linear layer.

    Its weights are normal with standard deviation `noise`; with 0 the adapter changes nothing.
    """
    torch.manual_seed(1)
    model = get_peft_model(
        load_bf16(model_folder), LoraConfig(r=4, target_modules="all-linear", task_type="CAUSAL_LM")
    )
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            if noise:
                torch.nn.init.normal_(parameter, std=noise)
            else:
                torch.nn.init.zeros_(parameter)
    model.save_pretrained(target)
    return target


def make_inputs(folder: Path, items: list[Row]) -> dict[str, Path]:
    """The files that `evaluate` reads beside its models, by the names of its arguments."""
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
