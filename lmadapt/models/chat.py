"""Conversations as tokens and labels, by one chat template for training, evaluation and serving."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from functools import lru_cache
from typing import Any

from lmadapt.core.errors import UserError

Message = dict[str, str]
IGNORED = -100  # label of a position without loss, as in torch.nn.functional.cross_entropy

# Stands for an answer; long enough to be found in what a template renders.
PLACEHOLDER = "The placeholder of an answer."

# Noncharacters of Unicode: they stand around a control token that a message spells as text.
OPEN, CLOSE = "\ufdd0", "\ufdd1"
SPELT = re.compile(f"{OPEN}(.*?){CLOSE}", re.DOTALL)

# How SentencePiece and byte-level tokenizers write a space.
SPACES = ("\u2581", "\u0120")

# The directives of strftime that templates use; a hyphen leaves out a leading zero.
DIRECTIVES = (*"YymdeBbAajHIMSp", "-m", "-d")
PINNED_DATE = "{% macro strftime_now(format) %}"

PLAIN_TEMPLATE = (
    "{{ bos_token or '' }}"
    "{% for message in messages %}"
    "{% if message['role'] == 'user' %}{{ 'Question: ' + message['content'] | trim + '\n' }}"
    "{% elif message['role'] == 'assistant' %}"
    "{{ 'Answer: ' + message['content'] | trim + eos_token + '\n' }}"
    "{% else %}{{ message['content'] | trim + '\n\n' }}{% endif %}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ 'Answer:' }}{% endif %}"
)
"""A template for base models. It uses ordinary tokens only, so that no embedding must be learnt."""


@dataclass(frozen=True)
class Encoded:
    """One conversation or text: token ids, and as many labels.

    A label is the token itself, or IGNORED where the position carries no loss.
    """

    input_ids: list[int]
    labels: list[int]
    replayed: bool = False  # general data that is mixed in against forgetting
    source: str = ""  # its name in the tables

    @property
    def loss_tokens(self) -> int:
        """How many positions carry loss. Position 0 never does, because nothing predicts it."""
        return sum(label != IGNORED for label in self.labels[1:])


@dataclass(frozen=True)
class _Turn:
    """An answer as the template renders it."""

    lead: str  # words that the template puts first, such as an empty block of thoughts
    said: str  # the answer, with the white space before it
    rest: str  # what follows it, such as the end-of-turn token


def pin_date(template: str, day: date) -> str:
    """The template, with `day` at midnight wherever it would print the time of rendering.

    A macro takes the place of the function strftime_now that transformers gives to templates.
    """
    if "strftime_now" not in template or template.startswith(PINNED_DATE):
        return template
    steps = "".join(
        f" | replace('%{letter}', '{day.strftime('%' + letter)}')" for letter in DIRECTIVES
    )
    # transformers drops the line end after a block, so the rest is rendered as before.
    return f"{PINNED_DATE}{{{{ format{steps} }}}}{{% endmacro %}}\n{template}"


def encode_text(tokenizer: Any, text: str) -> list[int]:
    """Token ids of a text without start and end; a control token that it spells is text."""
    return list(tokenizer(text, add_special_tokens=False, split_special_tokens=True)["input_ids"])


def encode_text_after(tokenizer: Any, before: str, text: str) -> list[int]:
    """As `encode_text`, where `before` stands directly before the text."""
    if not _adds_prefix(tokenizer, len(tokenizer)):
        return encode_text(tokenizer, text)
    context, whole = encode_text(tokenizer, before), encode_text(tokenizer, before + text)
    if whole[: len(context)] == context:
        return whole[len(context) :]
    return _without_prefix(tokenizer, encode_text(tokenizer, text))


def encode_prompt(tokenizer: Any, messages: Sequence[Message]) -> list[int]:
    """Token ids of the rendered conversation, up to where the assistant's own words start.

    Templates such as Qwen 3's put more than white space before an answer (an empty block of
    thoughts). It belongs to the prompt: otherwise it would be part of every choice that is scored.
    """
    messages = _guard(tokenizer, messages)
    text = _render(tokenizer, messages, generation_prompt=True)
    return _tokens(tokenizer, text + _turn(tokenizer, messages, PLACEHOLDER).lead)


def encode_choice(tokenizer: Any, messages: Sequence[Message], choice: str) -> list[int]:
    """Token ids of `choice` as the assistant would say it after `messages`.

    The end-of-turn token is left out.
    """
    *messages, answer = _guard(tokenizer, [*messages, {"role": "assistant", "content": choice}])
    turn = _turn(tokenizer, messages, answer["content"])
    prompt = _render(tokenizer, messages, generation_prompt=True)
    return _tokens_after(tokenizer, prompt + turn.lead, turn.said)


def end_of_turn(tokenizer: Any) -> int:
    """The token with which the chat template ends an answer; end-of-text where it has none."""
    question = [{"role": "user", "content": PLACEHOLDER}]
    return _end(tokenizer, _turn(tokenizer, question, PLACEHOLDER).rest)[0]


def start_of_text(tokenizer: Any) -> int:
    """The token before a text; where the tokenizer has none, one that ends a text or an answer."""
    for token in (tokenizer.bos_token_id, tokenizer.eos_token_id):
        if token is not None:
            return int(token)
    return end_of_turn(tokenizer)


def encode_conversation(tokenizer: Any, messages: Sequence[Message]) -> Encoded:
    """Token ids of a conversation, with labels on what the assistant says and where it ends.

    Tokens are those that a server makes of the whole rendering, except that none spans the border
    between prompt and answer, because a server has only the prompt. What the template puts between
    an answer and its end token carries loss, too: the model must say it to come to an end.
    Raises UserError when no token would be supervised, or the template rewrites earlier turns.
    """
    input_ids: list[int] = []
    labels: list[int] = []
    done = ""
    messages = _guard(tokenizer, messages)
    for number, message in enumerate(messages):
        if message["role"] != "assistant":
            continue
        prompt = _render(tokenizer, messages[:number], generation_prompt=True)
        if not prompt.startswith(done):
            raise UserError(
                f"the chat template rewrites earlier turns: after {done[-60:]!r} it renders "
                f"{prompt[-120:]!r}"
            )
        if not (message["content"] or "").strip():
            raise UserError(
                f"message {number + 1}, of the assistant, is empty: nothing can be learnt from it"
            )
        turn = _turn(tokenizer, messages[:number], message["content"])
        end, ending = _end(tokenizer, turn.rest)
        asked = prompt + turn.lead
        context = _tokens_after(tokenizer, done, asked[len(done) :])
        spoken = _tokens_after(tokenizer, asked, turn.said + ending)
        spoken += [] if ending else [end]
        input_ids += context + spoken
        labels += [IGNORED] * len(context) + spoken
        done = asked + turn.said + ending
    encoded = Encoded(input_ids, labels)
    if encoded.loss_tokens == 0:
        roles = [message["role"] for message in messages]
        raise UserError(f"zero supervised tokens in a conversation with roles {roles}")
    return encoded


def _guard(tokenizer: Any, messages: Sequence[Message]) -> list[Message]:
    """The messages, with OPEN and CLOSE around each control token that a content spells."""
    spellings = _spellings(tokenizer, len(tokenizer))
    if spellings is None:
        return list(messages)
    return [
        message | {"content": spellings.sub(f"{OPEN}\\g<0>{CLOSE}", message["content"] or "")}
        for message in messages
    ]


@lru_cache(maxsize=8)
def _spellings(tokenizer: Any, size: int) -> re.Pattern[str] | None:
    """A pattern of the spellings of control tokens; `size`, of the vocabulary, tells of changes."""
    added = tokenizer.added_tokens_decoder.values()
    spelt = {token.content for token in added if token.special}
    spelt.update(tokenizer.all_special_tokens)
    spelt.discard("")
    longest_first = sorted(spelt, key=len, reverse=True)
    return re.compile("|".join(map(re.escape, longest_first))) if spelt else None


def _turn(tokenizer: Any, messages: Sequence[Message], content: str) -> _Turn:
    lead = _completion(tokenizer, messages, PLACEHOLDER).partition(PLACEHOLDER)[0]
    said = lead + content.strip()
    completion = _completion(tokenizer, messages, content)
    if not completion.startswith(said):
        raise UserError(
            f"the chat template leaves out or rewrites the answer {content[:200]!r}: it renders "
            f"{completion[:200]!r}"
        )
    rest = completion[len(said) :]
    return _Turn(lead, content.strip(), rest) if lead.strip() else _Turn("", said, rest)


def _completion(tokenizer: Any, messages: Sequence[Message], content: str) -> str:
    prompt = _render(tokenizer, messages, generation_prompt=True)
    full = _render(
        tokenizer, [*messages, {"role": "assistant", "content": content}], generation_prompt=False
    )
    if not full.startswith(prompt):
        raise UserError(
            f"the chat template renders an answered conversation as {full[:200]!r}, which does not "
            f"begin with the unanswered one, {prompt[:200]!r}"
        )
    return full[len(prompt) :]


def _end(tokenizer: Any, rest: str) -> tuple[int, str]:
    """The token in `rest` that ends an answer, and the text up to the token's end.

    It is the first special token; without one, the first other token that was added to the
    vocabulary and shows something; without that, the end-of-text token with no text.
    """
    added = tokenizer.added_tokens_decoder
    special = {number for number, token in added.items() if token.special}
    special.update(tokenizer.all_special_ids)
    visible = {number for number, token in added.items() if token.content.strip()}
    ids = _tokens(tokenizer, rest)
    ends = special if special.intersection(ids) else visible
    place = next((index for index, token in enumerate(ids) if token in ends), None)
    if place is None and tokenizer.eos_token_id is None:
        raise UserError(
            f"neither the chat template nor the tokenizer of {tokenizer.name_or_path} has a token "
            "that ends an answer"
        )
    if place is None:
        return int(tokenizer.eos_token_id), ""
    text = tokenizer.decode(ids[place])
    return ids[place], rest[: rest.index(text) + len(text)]


def _render(tokenizer: Any, messages: Sequence[Message], *, generation_prompt: bool) -> str:
    if not tokenizer.chat_template:
        raise UserError(f"{tokenizer.name_or_path}: the tokenizer has no chat template")
    return str(
        tokenizer.apply_chat_template(
            list(messages), tokenize=False, add_generation_prompt=generation_prompt
        )
    )


def _tokens(tokenizer: Any, text: str) -> list[int]:
    """Token ids of a rendered text; what stands between OPEN and CLOSE becomes no control token."""
    ids: list[int] = []
    for number, part in enumerate(SPELT.split(text)):
        spelt = number % 2 == 1  # re.split puts the groups of the pattern at odd places
        if spelt:
            found = encode_text(tokenizer, part)
        else:
            found = list(tokenizer(part, add_special_tokens=False)["input_ids"]) if part else []
        ids += _without_prefix(tokenizer, found) if number else found
    return ids


def _tokens_after(tokenizer: Any, before: str, text: str) -> list[int]:
    """Token ids of `text` as it stands after `before` in a rendered conversation."""
    if not before or not _adds_prefix(tokenizer, len(tokenizer)):
        return _tokens(tokenizer, text)
    context, whole = _tokens(tokenizer, before), _tokens(tokenizer, before + text)
    if whole[: len(context)] == context:
        return whole[len(context) :]
    return _without_prefix(tokenizer, _tokens(tokenizer, text))


@lru_cache(maxsize=8)
def _adds_prefix(tokenizer: Any, size: int) -> bool:
    """Whether the tokenizer puts a space before each text (Llama 2, Mistral v0.1, TinyLlama)."""
    return str(tokenizer.convert_ids_to_tokens(encode_text(tokenizer, "a"))[0])[:1] in SPACES


def _without_prefix(tokenizer: Any, ids: list[int]) -> list[int]:
    """The ids without a leading token that is only the space before a text."""
    prefixed = ids and _adds_prefix(tokenizer, len(tokenizer))
    return ids[1:] if prefixed and tokenizer.convert_ids_to_tokens(ids[0]) in SPACES else ids
