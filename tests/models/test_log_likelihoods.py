import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import MistralConfig, MistralForCausalLM, Qwen3Config, Qwen3ForCausalLM

from lmadapt.core.errors import UserError
from lmadapt.models import log_likelihoods
from lmadapt.models.loading import load_bf16
from lmadapt.models.log_likelihoods import require_known_head, score
from lmadapt.models.questions import Question
from tests.tiny import VOCABULARY, make_tiny_model

SHAPE = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "pad_token_id": 0,
}


@pytest.fixture(
    scope="module", params=["gemma3", "llama", "mistral", "qwen3", "gemma3 with an adapter"]
)
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    torch.manual_seed(0)
    if request.param == "mistral":  # a sliding window in every layer, one mask
        return MistralForCausalLM(MistralConfig(**SHAPE, sliding_window=16)).float().eval()
    if request.param == "qwen3":
        return Qwen3ForCausalLM(Qwen3Config(**SHAPE, head_dim=16)).float().eval()
    folder = make_tiny_model(tmp_path_factory.mktemp("family"), family=request.param.split()[0])
    model = load_bf16(folder).float()
    if "adapter" in request.param:
        model = get_peft_model(
            model, LoraConfig(r=4, target_modules="all-linear", init_lora_weights=False)
        ).eval()
    return model


def random_questions() -> list[Question]:
    """Short ones, and ones longer than every sliding window; contexts and choices share starts."""
    draw = np.random.default_rng(0)
    shared = draw.integers(3, VOCABULARY, 20).tolist()
    questions = []
    for length in (1, 5, 20, 70, 150, 300):
        for begin in (shared, []):
            context = [2, *begin, *draw.integers(3, VOCABULARY, length).tolist()]
            first = draw.integers(3, VOCABULARY, 3).tolist()
            others = [draw.integers(3, VOCABULARY, size).tolist() for size in (1, 2, 9)]
            questions.append(Question(context, [first, [*first, 7], *others]))
    return questions


def plain_score(model: Any, context: list[int], continuation: list[int]) -> float:
    """The score from the model's own logits, one continuation at a time."""
    ids = torch.tensor([context + continuation])
    with torch.inference_mode():
        log_probabilities = model(input_ids=ids).logits[0].log_softmax(-1)
    places = range(len(context) - 1, len(context) + len(continuation) - 1)
    return sum(
        float(log_probabilities[place, token])
        for place, token in zip(places, continuation, strict=True)
    )


def test_a_tree_gives_the_scores_of_single_continuations(model: Any) -> None:
    questions = random_questions()
    expected = [[plain_score(model, q.context, c) for c in q.continuations] for q in questions]
    for batch_tokens in (64, 1000):
        actual = score(lambda: model, questions, batch_tokens=batch_tokens)
        assert max(abs(np.concatenate(actual) - np.concatenate(expected))) < 1e-3


def test_a_soft_cap_on_the_logits_is_applied(tmp_path: Path) -> None:
    model = load_bf16(make_tiny_model(tmp_path)).float()
    model.get_output_embeddings().weight.data *= 20
    question = Question([2, 5, 6], [[7, 8], [9]])
    before = score(lambda: model, [question], batch_tokens=100)[0]
    model.config.final_logit_softcapping = 5.0
    expected = [
        plain_score(model, question.context, continuation)
        for continuation in question.continuations
    ]
    actual = score(lambda: model, [question], batch_tokens=100)[0]
    assert actual == pytest.approx(expected, abs=1e-3)
    assert abs(actual[0] - before[0]) > 0.1


def test_a_model_that_scales_its_logits_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = load_bf16(make_tiny_model(tmp_path))
    require_known_head(model, [2, 5, 6, 7])
    own = model.forward

    def scaled(*inputs: Any, **options: Any) -> Any:
        output = own(*inputs, **options)
        output.logits = output.logits * 8
        return output

    monkeypatch.setattr(model, "forward", scaled)
    model.get_output_embeddings().weight.data *= 20
    with pytest.raises(
        UserError, match=r"cannot score a .*: its log-probabilities are \d+\.\d+ nats from"
    ):
        require_known_head(model, [2, 5, 6, 7])


def test_blocks_of_positions_and_vocabulary_change_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = load_bf16(make_tiny_model(tmp_path)).float()
    whole = score(lambda: model, random_questions(), batch_tokens=500)
    monkeypatch.setattr(log_likelihoods, "HEAD_POSITIONS", 3)
    monkeypatch.setattr(log_likelihoods, "HEAD_VOCABULARY", 64)
    blocks = score(lambda: model, random_questions(), batch_tokens=500)
    assert np.allclose(np.concatenate(whole), np.concatenate(blocks), atol=1e-4)


def test_fewer_batch_tokens_make_more_batches_and_every_question_is_reported_once(
    tiny_model: Path,
) -> None:
    model, done = load_bf16(tiny_model), {64: [], 2048: []}
    for batch_tokens, finished in done.items():
        score(
            lambda: model, random_questions(), batch_tokens=batch_tokens, on_batch=finished.append
        )
    assert len(done[64]) > len(done[2048])
    assert sum(done[64]) == sum(done[2048]) == len(random_questions())


def test_broken_weights_are_refused(tmp_path: Path) -> None:
    model = load_bf16(make_tiny_model(tmp_path))
    model.get_decoder().norm.weight.data[0] = math.nan
    with pytest.raises(UserError, match="not finite"):
        score(lambda: model, random_questions(), batch_tokens=500)


def test_a_question_longer_than_the_context_is_refused(tiny_model: Path) -> None:
    with pytest.raises(UserError, match="5001 tokens is longer than the model's context of 4096"):
        score(lambda: load_bf16(tiny_model), [Question([2] * 5000, [[3]])], batch_tokens=500)


def test_layers_other_than_attention_are_refused(tmp_path: Path) -> None:
    model = load_bf16(make_tiny_model(tmp_path))
    model.config.layer_types = ["linear_attention", "full_attention"]
    with pytest.raises(UserError, match="linear_attention"):
        score(lambda: model, random_questions(), batch_tokens=500)


def test_a_batch_that_does_not_fit_into_memory_is_halved(
    tiny_model: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    model, sizes = load_bf16(tiny_model).float(), []
    plain = log_likelihoods._score_batch
    whole = score(lambda: model, random_questions(), batch_tokens=2000)

    def short_of_memory(model: Any, rows: list[Any]) -> list[float]:
        sizes.append(len(rows))
        if len(rows) > 1:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 9 GiB.")
        return plain(model, rows)

    monkeypatch.setattr(log_likelihoods, "_score_batch", short_of_memory)
    halved = score(lambda: model, random_questions(), batch_tokens=2000)
    assert max(sizes) > 1
    assert max(abs(np.concatenate(halved) - np.concatenate(whole))) < 1e-4
    assert "not enough memory to score" in caplog.text
    monkeypatch.setattr(
        log_likelihoods,
        "_score_batch",
        lambda *_: exec("raise RuntimeError('CUDA out of memory. 9 GiB')"),
    )
    with pytest.raises(UserError, match="not enough memory to score a row of"):
        score(lambda: model, random_questions(), batch_tokens=2000)


def test_another_error_is_not_mistaken_for_a_lack_of_memory(
    tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: Any) -> list[float]:
        raise RuntimeError("shapes do not fit")

    monkeypatch.setattr(log_likelihoods, "_score_batch", broken)
    with pytest.raises(RuntimeError, match="shapes do not fit"):
        score(lambda: load_bf16(tiny_model), random_questions(), batch_tokens=2000)
