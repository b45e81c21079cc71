"""System messages, for chat templates with and without them."""

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

from lmadapt.models.chat import Message

PROBE = "The probe of a system message."


def with_system(tokenizer: Any, system: str, messages: Sequence[Message]) -> list[Message]:
    """The conversation with the system message `system`; without change when it is "".

    Some chat templates refuse a system message, and others leave it out in silence. For those it
    stands in front of the first message of the user, with an empty line between them, as Gemma's
    own template does it.
    """
    if not system:
        return list(messages)
    if _takes_system(tokenizer, tokenizer.chat_template):
        return [{"role": "system", "content": system}, *messages]
    first, *rest = messages
    return [first | {"content": f"{system}\n\n{first['content']}"}, *rest]


@lru_cache(maxsize=8)
def _takes_system(tokenizer: Any, template: str) -> bool:
    """Whether the template prints a system message; `template` tells of changes."""
    messages = [{"role": "system", "content": PROBE}, {"role": "user", "content": "Hello"}]
    try:
        text = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    except Exception:  # a chat template is a program of the model's author
        return False
    return PROBE in str(text)
