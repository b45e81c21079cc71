"""The behaviour checklist: what every adapted model must still do."""

import json
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple


class Prompt(NamedTuple):
    """A prompt and the check that its answer must pass (see `lmadapt.sources.answer_checks`)."""

    category: str
    severity: str  # critical | major | minor
    text: str
    check: dict[str, Any]


def _regex(pattern: str) -> dict[str, Any]:
    return {"kind": "regex", "pattern": pattern}


def _number(value: int) -> dict[str, Any]:
    return {"kind": "number", "value": value}


def _sentence(word: str) -> dict[str, Any]:
    return {"kind": "sentence", "min_words": 5, "contains": word}


def _json_keys(*keys: str) -> dict[str, Any]:
    return {"kind": "json_keys", "keys": list(keys)}


PROMPTS = [
    Prompt(
        "instruction", "critical", "Reply with the single word yes.", _regex(r"(?i)^\W*yes\W*$")
    ),
    Prompt("instruction", "major", "Write the word blue in capital letters.", _regex(r"\bBLUE\b")),
    Prompt(
        "instruction",
        "major",
        "Repeat this word exactly: marmalade",
        _regex(r"(?i)\bmarmalade\b"),
    ),
    Prompt(
        "instruction",
        "minor",
        "Name three colours, separated by commas.",
        _regex(r"^\W*\w[\w ]*,\s*\w[\w ]*,\s*(and )?\w[\w ]*\.?$"),
    ),
    Prompt(
        "instruction",
        "minor",
        "Count from one to five in digits.",
        _regex(r"1\D{1,6}2\D{1,6}3\D{1,6}4\D{1,6}5"),
    ),
    Prompt(
        "arithmetic",
        "major",
        "Tom has 3 apples. He buys 4 more and eats 2. How many apples has he?",
        _number(5),
    ),
    Prompt("arithmetic", "major", "What is 2 + 3, multiplied by 2?", _number(10)),
    Prompt(
        "arithmetic",
        "minor",
        "A pen costs 2 dollars. How much are 3 pens and a book of 4 dollars?",
        _number(10),
    ),
    Prompt(
        "arithmetic",
        "minor",
        "There are 10 birds. 4 fly away, then 1 comes back. How many are there?",
        _number(7),
    ),
    Prompt("sentence", "critical", "Write one sentence about the sea.", _sentence("sea")),
    Prompt("sentence", "critical", "Explain what rain is.", _sentence("rain")),
    Prompt("sentence", "major", "Why do people sleep?", _sentence("sleep")),
    Prompt("sentence", "minor", "Describe a dog in one sentence.", _sentence("dog")),
    Prompt(
        "json",
        "major",
        'Give a JSON object with the key "name", such as {"name": "Ann"}.',
        _json_keys("name"),
    ),
    Prompt(
        "json",
        "minor",
        'Describe Paris as JSON with the keys "city" and "country".',
        _json_keys("city", "country"),
    ),
    Prompt(
        "json",
        "minor",
        'Write a JSON object with the keys "title" and "year" for a book.',
        _json_keys("title", "year"),
    ),
]


def evaluation(packages: Mapping[str, str]) -> Iterator[dict[str, Any]]:
    """One row for each prompt, with the check that its answer must pass."""
    for number, prompt in enumerate(PROMPTS, start=1):
        yield {
            "group": "behaviour",
            "category": prompt.category,
            "cluster": f"behaviour {number}",
            "prompt": prompt.text,
            "choices": [],
            "answer": None,
            "check": json.dumps(prompt.check, sort_keys=True),
            "severity": prompt.severity,
            "location": str(number),
        }
