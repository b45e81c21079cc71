"""Models whose configuration or tokenizer names several end tokens, or leaves tokens out."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lmadapt.evaluation.answer_cache import AnswerCache
from lmadapt.evaluation.divergence import divergence, let_reference_write, text_nats
from lmadapt.evaluation.exam import Exam
from lmadapt.evaluation.variants import CachedModel
from lmadapt.models.generation import generate_answers
from lmadapt.models.loading import load_bf16, load_tokenizer
from lmadapt.models.log_likelihoods import score
from lmadapt.models.questions import encode_document, encode_item
from lmadapt.training.encoding import encode_documents
from tests.tables import document
from tests.tiny import TEXT, make_tiny_model

ENDS = [1, 0]
CONVERSATIONS = [
    [{"role": "user", "content": text}] for text in ("Numbers", "What is the capital of France?")
]


@pytest.fixture(scope="module")
def listed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny Llama whose configuration has a list of end tokens, as Llama 3 Instruct's has."""
    folder = make_tiny_model(tmp_path_factory.mktemp("listed"), family="llama")
    for name in ("config.json", "generation_config.json"):
        settings = json.loads((folder / name).read_text())
        (folder / name).write_text(json.dumps({**settings, "eos_token_id": ENDS}))
    return folder


def test_divergence_is_measured_on_a_model_with_a_list_of_end_tokens(
    listed: Path, tmp_path: Path
) -> None:
    model, tokenizer = load_bf16(listed), load_tokenizer(listed)
    assert model.generation_config.eos_token_id == ENDS
    documents: list[Any] = [
        {"id": str(n), "group": "general", "entity": "", "text": text * 4}
        for n, text in enumerate(TEXT[:2])
    ]
    windows = [encode_document(tokenizer, one["text"]) for one in documents]
    cached = CachedModel(lambda: model, AnswerCache(tmp_path / "answers.sqlite", "listed"))
    text = let_reference_write(cached, Exam([], [], documents, windows), seed=0)
    assert {len(question.continuations[0]) for question in text.questions} == {64}
    nats = text_nats(cached, text, batch_tokens=2048)
    assert np.isfinite(nats).all()
    found = divergence(text, {"reference": nats, "same": nats}, significance=0.05)
    assert found is not None
    assert found["same"].value == 0
    cached.cache.close()


def _without(tokenizer: Any, case: str) -> Any:
    if case == "no pad token":
        tokenizer.pad_token = None
    if case == "a pad token equal to the end token":
        tokenizer.pad_token = tokenizer.eos_token
    if case == "no begin token":
        tokenizer.bos_token = None
    return tokenizer


@pytest.mark.parametrize(
    "case",
    ["a list of ends", "no pad token", "a pad token equal to the end token", "no begin token"],
)
def test_answers_and_scores_do_not_depend_on_the_pad_token(case: str, listed: Path) -> None:
    model = load_bf16(listed).float()
    tokenizer = _without(load_tokenizer(listed), case)
    alone = [generate_answers(model, tokenizer, [c], max_new_tokens=6)[0] for c in CONVERSATIONS]
    assert generate_answers(model, tokenizer, CONVERSATIONS, max_new_tokens=6) == alone
    question = encode_item(tokenizer, "Which?", ["Paris", "SQL injection"])
    ((one, other),) = score(lambda: model, [question], batch_tokens=256)
    assert max(one, other) < 0
    ((window, *_), ((piece, *_),)) = (
        encode_document(tokenizer, TEXT[0]),
        encode_documents(tokenizer, [document(0, TEXT[0])], max_tokens=64),
    )
    begin = tokenizer.eos_token_id if case == "no begin token" else tokenizer.bos_token_id
    assert window.context == [begin]
    assert piece.input_ids[-1] == tokenizer.eos_token_id


def test_padding_may_lie_beyond_the_embeddings(listed: Path) -> None:
    model, tokenizer = load_bf16(listed).float(), load_tokenizer(listed)
    before = generate_answers(model, tokenizer, CONVERSATIONS, max_new_tokens=6)
    tokenizer.add_special_tokens({"pad_token": "<|beyond|>"})
    tokenizer.add_special_tokens({"additional_special_tokens": [f"<{n}>" for n in range(600)]})
    tokenizer.pad_token = "<599>"
    assert tokenizer.pad_token_id >= 500
    assert generate_answers(model, tokenizer, CONVERSATIONS, max_new_tokens=6) == before


def test_a_tokenizer_with_neither_begin_nor_end_token_starts_with_the_end_of_a_turn(
    listed: Path,
) -> None:
    model, tokenizer = load_bf16(listed).float(), load_tokenizer(listed)
    tokenizer.chat_template = (
        "{% for m in messages %}{{ '<bos>' + m['role'] + m['content'] + '<pad>' }}{% endfor %}"
        "{% if add_generation_prompt %}{{ '<bos>assistant' }}{% endif %}"
    )
    tokenizer.add_special_tokens({"additional_special_tokens": ["<bos>", "<pad>"]})
    tokenizer.bos_token = tokenizer.eos_token = None
    (window, *_) = encode_document(tokenizer, TEXT[0])
    assert window.context == [0]
    assert len(generate_answers(model, tokenizer, CONVERSATIONS, max_new_tokens=6)) == 2
