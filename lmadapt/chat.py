"""Conversations as tokens: one chat template for training, evaluation and serving, and the labels it implies."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from lmadapt.errors import UserError

Message = dict[str, str]
IGNORED = -100  # label of a position that carries no loss, as in torch.nn.functional.cross_entropy

PLAIN_TEMPLATE = (
    "{{ bos_token or '' }}"
    "{% for message in messages %}"
    "{% if message['role'] == 'user' %}{{ 'Question: ' + message['content'] | trim + '\n' }}"
    "{% elif message['role'] == 'assistant' %}{{ 'Answer: ' + message['content'] | trim + eos_token + '\n' }}"
    "{% else %}{{ message['content'] | trim + '\n\n' }}{% endif %}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ 'Answer:' }}{% endif %}"
)
"""A template of ordinary tokens, for base models: it needs no new embeddings to be learnt."""


@dataclass(frozen=True)
class Encoded:
    """One conversation: token ids and labels of equal length; a label is the token itself or IGNORED."""

    input_ids: list[int]
    labels: list[int]

    @property
    def loss_tokens(self) -> int:
        """How many positions carry loss; position 0 predicts nothing and never counts."""
        return sum(label != IGNORED for label in self.labels[1:])


def encode_prompt(tokenizer: Any, messages: Sequence[Message]) -> list[int]:
    """Token ids of the rendered conversation, up to where the assistant speaks next."""
    return _tokens(tokenizer, _render(tokenizer, messages, generation_prompt=True))


def encode_choice(tokenizer: Any, messages: Sequence[Message], choice: str) -> list[int]:
    """Token ids of `choice` as the assistant would say it after `messages`, without the end-of-turn token."""
    return _tokens(tokenizer, _completion(tokenizer, messages, choice).partition(tokenizer.eos_token)[0])


def encode_conversation(tokenizer: Any, messages: Sequence[Message]) -> Encoded:
    """Token ids of a conversation, with labels on what the assistant says and the end of each of its turns.

    Prompt and completion are tokenised apart, as they are at inference, so that no token spans the border.
    Raises UserError when nothing would be supervised or the template rewrites earlier turns.
    """
    input_ids: list[int] = []
    labels: list[int] = []
    done = ""
    for turn, message in enumerate(messages):
        if message["role"] != "assistant":
            continue
        prompt = _render(tokenizer, messages[:turn], generation_prompt=True)
        if not prompt.startswith(done):
            raise UserError(f"the chat template rewrites earlier turns: after {done[-60:]!r} came {prompt[-120:]!r}")
        context = _tokens(tokenizer, prompt[len(done) :])
        completion = _completion(tokenizer, messages[:turn], message["content"])
        said, _, rest = completion.partition(tokenizer.eos_token)
        if not said.strip():
            raise UserError(f"turn {turn + 1} of the assistant is empty: there is nothing to learn from it")
        spoken = [*_tokens(tokenizer, said), tokenizer.eos_token_id]
        input_ids += context + spoken
        labels += [IGNORED] * len(context) + spoken
        done = prompt + completion[: len(completion) - len(rest)]
    encoded = Encoded(input_ids, labels)
    if encoded.loss_tokens == 0:
        raise UserError(f"zero supervised tokens in a conversation with roles {[m['role'] for m in messages]}")
    return encoded


def _completion(tokenizer: Any, messages: Sequence[Message], content: str) -> str:
    prompt = _render(tokenizer, messages, generation_prompt=True)
    full = _render(tokenizer, [*messages, {"role": "assistant", "content": content}], generation_prompt=False)
    if not full.startswith(prompt):
        raise UserError(
            f"the chat template renders {full[:200]!r}, which does not begin with its prompt {prompt[:200]!r}"
        )
    return full[len(prompt) :]


def _render(tokenizer: Any, messages: Sequence[Message], *, generation_prompt: bool) -> str:
    if not tokenizer.chat_template:
        raise UserError(f"{tokenizer.name_or_path}: the tokenizer has no chat template")
    return str(tokenizer.apply_chat_template(list(messages), tokenize=False, add_generation_prompt=generation_prompt))


def _tokens(tokenizer: Any, text: str) -> list[int]:
    return list(tokenizer(text, add_special_tokens=False)["input_ids"])
