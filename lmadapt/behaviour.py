"""Behaviour checks: ask a model, and judge what it answers by a rule that needs no opinion."""

import json
import re
from collections.abc import Callable, Sequence
from typing import Any

from lmadapt.errors import UserError

Judge = Callable[[str, dict[str, Any]], bool]


def ask(
    model: Any,
    tokenizer: Any,
    prompts: Sequence[str],
    *,
    max_new_tokens: int,
    on_batch: Callable[[int], None] = lambda done: None,
) -> list[str]:
    """The model's greedy answer to each prompt; see `lmadapt.generation.generate_answers`."""
    from lmadapt.generation import generate_answers

    conversations = [[{"role": "user", "content": prompt}] for prompt in prompts]
    return generate_answers(model, tokenizer, conversations, max_new_tokens=max_new_tokens, on_batch=on_batch)


def passes(answer: str, check: str) -> bool:
    """Whether `answer` satisfies `check`, a JSON object with `kind` and the keys of that kind:

    {"kind": "regex", "pattern": P}: P is found in the answer.
    {"kind": "number", "value": V}: the last number in the answer equals V.
    {"kind": "sentence", "min_words": N, "contains": W}: at least N words, ending in . ! or ?, containing W in any
    case, at least half of its words distinct (so that a loop does not pass).
    {"kind": "json_keys", "keys": [...]}: the first {...} object in the answer parses and has exactly these keys.
    Raises UserError when the check is none of these.
    """
    try:
        wanted = json.loads(check)
        return _JUDGES[wanted["kind"]](answer, wanted)
    except (ValueError, KeyError, TypeError, re.error) as error:
        raise UserError(
            f"behaviour check {check!r} cannot be applied ({type(error).__name__}: {error}); "
            f"allowed kinds: {', '.join(_JUDGES)}, with the keys described in docs/verdict.md"
        ) from None


def _matches(answer: str, wanted: dict[str, Any]) -> bool:
    return re.search(wanted["pattern"], answer) is not None


def _ends_in_number(answer: str, wanted: dict[str, Any]) -> bool:
    value = float(wanted["value"])
    numbers = re.findall(r"-?\d+(?:\.\d+)?", re.sub(r"(?<=\d),(?=\d{3})", "", answer))
    return bool(numbers) and float(numbers[-1]) == value


def _is_sentence(answer: str, wanted: dict[str, Any]) -> bool:
    words = re.findall(r"\w+", answer.lower())
    return (
        len(words) >= int(wanted["min_words"])
        and answer.rstrip().endswith((".", "!", "?"))
        and str(wanted["contains"]).lower() in answer.lower()
        and len(set(words)) * 2 >= len(words)
    )


def _has_keys(answer: str, wanted: dict[str, Any]) -> bool:
    keys = set(wanted["keys"])
    start = answer.find("{")
    if start < 0:
        return False
    try:
        found, _ = json.JSONDecoder().raw_decode(answer, start)
    except json.JSONDecodeError:
        return False
    return set(found) == keys


_JUDGES: dict[str, Judge] = {
    "regex": _matches,
    "number": _ends_in_number,
    "sentence": _is_sentence,
    "json_keys": _has_keys,
}
