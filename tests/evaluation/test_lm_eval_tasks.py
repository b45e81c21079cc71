from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lmadapt.core.errors import UserError
from lmadapt.evaluation.answer_cache import AnswerCache
from lmadapt.evaluation.answers import Answers
from lmadapt.evaluation.exam import make_exam
from lmadapt.evaluation.lm_eval_tasks import add_tasks, answer_tasks
from lmadapt.evaluation.variants import CachedModel
from lmadapt.models.loading import load_bf16, load_tokenizer
from lmadapt.models.log_likelihoods import score
from lmadapt.models.questions import Question
from tests.planted import make_items, make_task

pytest.importorskip("lm_eval")


@pytest.fixture
def task(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "datasets"))
    return make_task(tmp_path, questions=12)


def test_the_answers_to_a_task_are_cached(task: str, tiny_model: Path) -> None:
    loads: list[int] = []
    tokenizer = load_tokenizer(tiny_model)

    def model() -> Any:
        loads.append(1)
        return load_bf16(tiny_model)

    asked = CachedModel(model, AnswerCache(Path(":memory:"), "tiny"))
    rows = answer_tasks(asked, tokenizer, [task])
    assert answer_tasks(asked, tokenizer, [task]) == rows
    assert len(loads) == 1
    assert [row["id"] for row in rows] == [f"lm-eval/capitals_task/{n:06}" for n in range(12)]
    assert {row["score"] for row in rows} == {0.0, 1.0}
    assert rows[0]["prompt"] == "What is the capital of number 0?"


def test_our_scores_of_the_same_tokens_equal_those_of_the_harness(
    task: str, tiny_model: Path
) -> None:
    from lm_eval import simple_evaluate
    from lm_eval.models.huggingface import HFLM
    from lm_eval.tasks import TaskManager

    model, tokenizer = load_bf16(tiny_model).float(), load_tokenizer(tiny_model)
    known = TaskManager(include_path=str(Path(task).parent), include_defaults=False)
    peer = HFLM(pretrained=model, tokenizer=tokenizer, batch_size=4)
    found = simple_evaluate(peer, tasks=["capitals_task"], task_manager=known, bootstrap_iters=0)
    theirs = [
        [float(r[0][0]) for r in sample["resps"]] for sample in found["samples"]["capitals_task"]
    ]
    questions = []
    for sample in found["samples"]["capitals_task"]:
        pairs = [peer._encode_pair(*arguments[:2]) for arguments in sample["arguments"]]
        questions.append(Question(pairs[0][0], [continuation for _, continuation in pairs]))
    ours = score(lambda: model, questions, batch_tokens=500)
    assert np.abs(np.array(ours) - np.array(theirs)).max() < 1e-3


def test_the_items_of_a_task_are_added_to_the_exam_as_general_ability(tiny_model: Path) -> None:
    exam = make_exam(make_items(), [], load_tokenizer(tiny_model), heldout_tokens=1, seed=0)
    count = len(exam.items)
    answers = Answers([[]] * count, [""] * count, np.zeros(count), np.zeros(0))
    row = {
        "id": "lm-eval/t/0",
        "category": "t",
        "passage": "passage 0",
        "prompt": "p",
        "text": "p",
        "target": "x",
        "response": "y",
        "score": 1.0,
    }
    longer, found = add_tasks(exam, {"base": answers}, {"base": [row]})
    assert len(longer.items) == len(longer.questions) == len(found["base"].scores) == count + 1
    assert longer.items[-1]["cluster"] == "passage 0"
    assert (longer.items[-1]["group"], longer.items[-1]["category"], found["base"].scores[-1]) == (
        "general",
        "t",
        1.0,
    )


def test_an_unknown_task_is_refused_by_name(task: str, tiny_model: Path) -> None:
    asked = CachedModel(lambda: load_bf16(tiny_model), AnswerCache(Path(":memory:"), "tiny"))
    missing = task.replace("capitals_task", "no_task")
    with pytest.raises(UserError, match=r"no task '.*no_task.yaml'"):
        answer_tasks(asked, load_tokenizer(tiny_model), [missing])
