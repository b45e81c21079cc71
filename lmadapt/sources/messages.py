"""Conversations of a record: a list of messages, the last by the assistant."""

from collections.abc import Mapping
from typing import Any

from lmadapt.core.errors import UserError
from lmadapt.sources.records import field_text, parsed

# Keys of a message that change what is learnt from it or how it is rendered. None is supported.
MEANINGFUL_KEYS = (
    *("weight", "train", "tool_calls", "tool_call_id", "function_call", "name"),
    *("reasoning_content", "reasoning", "thinking"),
)
HARMLESS_VALUES: tuple[Any, ...] = (None, "", [], {})


def read_messages(value: Any, column: str, place: str) -> list[dict[str, str]]:
    """The messages, roles checked; a conversation without a last answer gets an empty one."""
    value = parsed(value, place)
    if not isinstance(value, list) or not value:
        raise UserError(
            f"{place}: {column} must be a list of messages with role and content, got {value!r}"
        )
    messages = []
    for turn, message in enumerate(value):
        here = f"{place}: {column}[{turn}]"
        if not isinstance(message, dict):
            raise UserError(f"{here} must have role and content, got {message!r}")
        role, content = field_text(message, "role", here), field_text(message, "content", here)
        if role not in ("user", "assistant") and (role != "system" or turn):
            raise UserError(
                f"{here}: role {role!r}; allowed: user, assistant, and in the first message system"
            )
        _require_plain(message, here)
        messages.append({"role": role, "content": content})
    if messages[-1]["role"] != "assistant":
        messages.append({"role": "assistant", "content": ""})
    return messages


def _require_plain(message: Mapping[str, Any], place: str) -> None:
    """Raise UserError for a key whose loss would change what is learnt from a message."""
    for key in MEANINGFUL_KEYS:
        value = message.get(key)
        full_loss = key in ("weight", "train") and value == 1
        if value not in HARMLESS_VALUES and not full_loss:
            raise UserError(
                f"{place}: {key} is {value!r}, which is not supported; allowed: role and content, "
                "weight: 1 and train: true"
            )
