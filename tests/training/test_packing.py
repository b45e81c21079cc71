from itertools import chain
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import AutoModelForCausalLM

from lmadapt.models.chat import IGNORED, Encoded
from lmadapt.training.packing import DOMAIN, LOOK_AHEAD, REPLAY, PackedRow, pack, split_document
from tests.tiny import make_tiny_model


def _example(*tokens: int) -> Encoded:
    return Encoded(list(tokens), list(tokens))


def _unpack(rows: list[PackedRow]) -> list[list[int]]:
    examples: list[list[int]] = []
    for row in rows:
        for token, position in zip(row["input_ids"], row["position_ids"], strict=True):
            if position == 0:
                examples.append([])
            examples[-1].append(token)
    return examples


@given(st.lists(st.integers(1, 20), max_size=60), st.integers(1, 4))
def test_every_example_is_whole_in_exactly_one_row(lengths: list[int], rows_per_step: int) -> None:
    examples = [_example(*range(100 * i, 100 * i + n)) for i, n in enumerate(lengths)]
    rows = pack(examples, max_tokens=20, rows_per_step=rows_per_step)
    assert sorted(_unpack(rows)) == sorted(example.input_ids for example in examples)
    assert all(len(row["input_ids"]) <= 20 for row in rows)
    full_steps = len(rows) // rows_per_step * rows_per_step
    assert all(row["input_ids"] for row in rows[:full_steps])


def test_rows_are_nearly_full() -> None:
    lengths = np.random.default_rng(0).integers(20, 200, 500)
    rows = pack([_example(*range(n)) for n in lengths], max_tokens=512, rows_per_step=4)
    assert lengths.sum() / (512 * len(rows)) > 0.95


def test_an_example_moves_by_at_most_the_look_ahead_and_a_step() -> None:
    lengths = np.random.default_rng(1).integers(2, 60, 300)
    examples = [_example(*[i] * n) for i, n in enumerate(lengths)]
    order = [tokens[0] for tokens in _unpack(pack(examples, max_tokens=64, rows_per_step=2))]
    step_examples = 2 * 64 // 2
    assert (
        max(abs(place - number) for place, number in enumerate(order)) <= LOOK_AHEAD + step_examples
    )
    assert sum(abs(place - number) for place, number in enumerate(order)) / len(order) < LOOK_AHEAD


def test_the_first_token_of_each_example_carries_no_loss() -> None:
    (row,) = pack([_example(5, 6, 7), _example(8, 9)], max_tokens=8, rows_per_step=1)
    assert row["labels"] == [IGNORED, 6, 7, IGNORED, 9]
    assert row["position_ids"] == [0, 1, 2, 0, 1]


def test_a_row_marks_every_token_as_domain_or_replay() -> None:
    (row,) = pack(
        [_example(5, 6, 7), Encoded([8, 9], [8, 9], replayed=True)], max_tokens=8, rows_per_step=1
    )
    assert row["sources"] == [DOMAIN, DOMAIN, DOMAIN, REPLAY, REPLAY]


def test_an_example_longer_than_a_row_is_refused() -> None:
    with pytest.raises(ValueError, match="9 tokens does not fit into a row of 8"):
        pack([_example(*range(9))], max_tokens=8, rows_per_step=1)


@given(st.integers(1, 50), st.integers(2, 12))
def test_a_split_document_predicts_every_token_but_its_first_exactly_once(
    length: int, max_tokens: int
) -> None:
    pieces = split_document(_example(*range(length)), max_tokens=max_tokens)
    assert all(len(piece.input_ids) <= max_tokens for piece in pieces)
    predicted = chain.from_iterable(piece.labels[1:] for piece in pieces)
    assert list(predicted) == list(range(1, length))
    assert pieces[0].input_ids[0] == 0


@pytest.mark.parametrize("family", ["gemma3", "llama"])
def test_logits_in_a_packed_row_equal_those_of_each_example_alone(
    family: str, tmp_path: Path
) -> None:
    folder = make_tiny_model(tmp_path / family, family=family)
    model = AutoModelForCausalLM.from_pretrained(
        folder, dtype=torch.float32, attn_implementation="sdpa"
    ).eval()
    generator = torch.Generator().manual_seed(0)
    examples = [
        _example(*torch.randint(5, 500, (n,), generator=generator).tolist())
        for n in (100, 7, 80, 30)
    ]
    (row,) = pack(examples, max_tokens=256, rows_per_step=1)
    with torch.no_grad():
        packed = model(
            **{k: torch.tensor([v]) for k, v in row.items() if k not in ("labels", "sources")},
            use_cache=False,
        ).logits[0]
        alone = torch.cat(
            [model(torch.tensor([example.input_ids])).logits[0] for example in examples]
        )
    # The examples are longer than the sliding window of 64 tokens.
    torch.testing.assert_close(packed, alone, rtol=1e-4, atol=1e-4)
