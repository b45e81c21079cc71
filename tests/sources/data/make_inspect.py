"""Writes inspect/before.eval and inspect/after.json, logs of Inspect 0.3.285.

`python make_inspect.py` takes half a minute and needs `pip install inspect-ai==0.3.285`. The solver
answers from a table: Inspect's `mockllm` counts tokens with a file from the network.
"""

import random
import shutil
from pathlib import Path

from inspect_ai import Epochs, Task, eval
from inspect_ai.dataset import MemoryDataset, Sample
from inspect_ai.log import read_eval_log, write_eval_log
from inspect_ai.model import ModelOutput
from inspect_ai.scorer import Score, Target, exact, mean, scorer
from inspect_ai.solver import Generate, TaskState, solver

FOLDER = Path(__file__).parent / "inspect"
SAMPLES = [
    Sample(
        id=number + 1,
        input=f"What is {number} + {number % 7}?",
        target=str(number + number % 7),
        metadata={"topic": "odd" if number % 2 else "even", "page": number // 2},
    )
    for number in range(40)
]


@scorer(metrics=[mean()])
def brevity():
    async def score(state: TaskState, target: Target) -> Score:
        return Score(value=1 / len(state.output.completion.split()))

    return score


@solver
def answer_from_table(share: float, seed: int):
    async def solve(state: TaskState, generate: Generate) -> TaskState:
        draw = random.Random(f"{seed} {state.sample_id} {state.epoch}")
        answer = state.target.text if draw.random() < share else "no idea"
        state.output = ModelOutput.from_content("mockllm/model", answer)
        return state

    return solve


for run, share, epochs, form in (("before", 0.6, 2, "eval"), ("after", 0.7, 1, "json")):
    task = Task(
        name="sums",
        dataset=MemoryDataset(SAMPLES, name="sums"),
        solver=answer_from_table(share, seed=epochs),
        scorer=[exact(), brevity()],
        epochs=Epochs(epochs, "mean"),
    )
    logs = eval(
        task, model="mockllm/model", log_dir=str(FOLDER / "logs"), log_format=form, display="none"
    )
    log = read_eval_log(logs[0].location)
    for sample in log.samples:
        sample.events = []  # most of a log, and no part of the scores
    write_eval_log(log, str(FOLDER / f"{run}.{form}"), format=form)
shutil.rmtree(FOLDER / "logs")
