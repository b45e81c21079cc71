import numpy as np

from lmadapt.evaluation.answers import Answers
from lmadapt.evaluation.attribution import Chain, lost_in
from lmadapt.evaluation.exam import Exam


def chain_of(**scores: list[float]) -> Chain:
    count = len(scores["base"])
    exam = Exam([{"id": str(number)} for number in range(count)], [None] * count, [], [])
    return Chain(
        exam,
        {
            name: Answers([[]] * count, [""] * count, np.array(values), np.zeros(0))
            for name, values in scores.items()
        },
    )


def test_an_item_is_lost_in_the_last_step_that_lowered_its_score() -> None:
    chain = chain_of(
        base=[1.0, 1.0, 1.0, 1.0, 0.0],
        pretrained=[0.0, 1.0, 0.0, 0.0, 0.0],
        quantised=[0.0, 0.0, 1.0, 0.0, 0.0],
        adapted=[0.0, 0.0, 0.0, 1.0, 0.0],
        merged=[1.0, 1.0, 1.0, 0.0, 0.0],
    )
    assert lost_in(chain) == {"0": "pre-training", "1": "quantisation", "2": "fine-tuning"}


def test_without_quantisation_the_chain_has_one_step_less() -> None:
    chain = chain_of(base=[1.0, 1.0], pretrained=[1.0, 0.0], adapted=[0.0, 0.0], merged=[0.0, 0.0])
    assert lost_in(chain) == {"0": "fine-tuning", "1": "pre-training"}
