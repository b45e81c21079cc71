"""Writes lm_eval/before and lm_eval/after, samples of lm-evaluation-harness 0.4.13.

`python make_lm_eval.py` takes half a minute and needs the extra `harness`. The harness's own model
`dummy` answers: log-likelihoods at random by the seed, and "lol" to every open question.
"""

import json
import subprocess
import tempfile
from pathlib import Path

FOLDER = Path(__file__).parent / "lm_eval"
PASSAGES = """
task: passages
dataset_path: json
dataset_kwargs: {{data_files: {{test: {folder}/passages.jsonl}}}}
test_split: test
output_type: multiple_choice
doc_to_text: "{{{{passage}}}} {{{{question}}}}"
doc_to_choice: ["no", "yes"]
doc_to_target: answer
metric_list: [{{metric: acc}}, {{metric: acc_norm}}]
"""
SUMS = """
task: sums
dataset_path: json
dataset_kwargs: {{data_files: {{test: {folder}/sums.jsonl}}}}
test_split: test
output_type: generate_until
doc_to_text: "{{{{question}}}} ="
doc_to_target: "{{{{answer}}}}"
generation_kwargs: {{until: ["\\n"], max_gen_toks: 8}}
metric_list: [{{metric: exact_match}}]
filter_list:
  - {{name: strict-match, filter: [{{function: take_first}}]}}
  - name: word
    filter: [{{function: regex, regex_pattern: "([a-z]+)"}}, {{function: take_first}}]
"""


def write_tasks(folder: Path) -> None:
    passages = [
        {
            "passage": f"Shelf {number // 2} holds {number // 2 + 3} jars.",
            "question": f"Are there {number + 2} jars?",
            "answer": number % 2,
        }
        for number in range(40)
    ]
    sums = [
        {"question": f"{number} + {number % 7}", "answer": "lol" if number % 3 else str(number)}
        for number in range(40)
    ]
    for name, rows in {"passages": passages, "sums": sums}.items():
        lines = "".join(json.dumps(row) + "\n" for row in rows)
        (folder / f"{name}.jsonl").write_text(lines)
    (folder / "passages.yaml").write_text(PASSAGES.format(folder=folder))
    (folder / "sums.yaml").write_text(SUMS.format(folder=folder))


with tempfile.TemporaryDirectory() as name:
    write_tasks(Path(name))
    for run, seed in {"before": 1, "after": 2}.items():
        results = Path(name) / run
        command = ["lm_eval", "run", "--model", "dummy", "--tasks", "passages,sums"]
        command += ["--include_path", name, "--seed", str(seed)]
        command += ["--log_samples", "--output_path", str(results)]
        subprocess.run(command, check=True)
        (FOLDER / run).mkdir(parents=True, exist_ok=True)
        for file in results.rglob("samples_*.jsonl"):
            file.rename(FOLDER / run / file.name)
