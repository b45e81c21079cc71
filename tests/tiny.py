"""A real two-layer model with a vocabulary of 500 tokens, made in a second, for tests."""

from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import (
    Gemma3ForCausalLM,
    Gemma3TextConfig,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
)

from lmadapt.models.chat import PLAIN_TEMPLATE

VOCABULARY = 500
TEXT = [
    "Question: What is the capital of France?\nAnswer: Paris\n",
    "Question: Which weakness is described: the product does not neutralize user input?\n"
    "Answer: SQL injection\n",
    "The application reads a buffer before checking its length, "
    "and an attacker may execute code.\n",
    'Numbers: 0 1 2 3 4 5 6 7 8 9 10 12 25 100. Names: {"name": "value"}; a, b, c!\n',
]


def make_tiny_tokenizer() -> PreTrainedTokenizerFast:
    """A byte-level BPE tokenizer of 500 tokens: any text can be encoded."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=["<pad>", "<eos>", "<bos>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(TEXT * 4, trainer)
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="<pad>",
        eos_token="<eos>",
        bos_token="<bos>",
        model_max_length=4096,
    )
    fast.chat_template = PLAIN_TEMPLATE
    return fast


def make_tiny_model(folder: Path, *, family: str = "gemma3", seed: int = 0) -> Path:
    """Write a randomly initialised two-layer model and its tokenizer to `folder`.

    family: gemma3 | llama.
    """
    torch.manual_seed(seed)
    shape = {
        "vocab_size": VOCABULARY,
        "hidden_size": 64,
        "intermediate_size": 128,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 4096,
        "pad_token_id": 0,
        "eos_token_id": 1,
        "bos_token_id": 2,
    }
    if family == "gemma3":
        layers = ["sliding_attention", "full_attention"]
        config = Gemma3TextConfig(**shape, head_dim=16, sliding_window=64, layer_types=layers)
        model = Gemma3ForCausalLM(config)
    else:
        model = LlamaForCausalLM(LlamaConfig(**shape))
    model.to(torch.bfloat16).save_pretrained(folder)
    make_tiny_tokenizer().save_pretrained(folder)
    return folder
