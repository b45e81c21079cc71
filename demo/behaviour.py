"""The behaviour checklist: what any adapted model must still do."""

import json
from collections.abc import Iterator, Mapping
from typing import Any

CHECKS: list[tuple[str, str, str, dict[str, Any]]] = [
    (
        "instruction",
        "critical",
        "Reply with the single word yes.",
        {"kind": "regex", "pattern": r"(?i)^\W*yes\W*$"},
    ),
    (
        "instruction",
        "major",
        "Write the word blue in capital letters.",
        {"kind": "regex", "pattern": r"\bBLUE\b"},
    ),
    (
        "instruction",
        "major",
        "Repeat this word exactly: marmalade",
        {"kind": "regex", "pattern": r"(?i)\bmarmalade\b"},
    ),
    (
        "instruction",
        "minor",
        "Name three colours, separated by commas.",
        {"kind": "regex", "pattern": r"^\W*\w[\w ]*,\s*\w[\w ]*,\s*(and )?\w[\w ]*\.?$"},
    ),
    (
        "instruction",
        "minor",
        "Count from one to five in digits.",
        {"kind": "regex", "pattern": r"1\D{1,6}2\D{1,6}3\D{1,6}4\D{1,6}5"},
    ),
    (
        "arithmetic",
        "major",
        "Tom has 3 apples. He buys 4 more and eats 2. How many apples has he?",
        {"kind": "number", "value": 5},
    ),
    ("arithmetic", "major", "What is 2 + 3, multiplied by 2?", {"kind": "number", "value": 10}),
    (
        "arithmetic",
        "minor",
        "A pen costs 2 dollars. How much are 3 pens and a book of 4 dollars?",
        {"kind": "number", "value": 10},
    ),
    (
        "arithmetic",
        "minor",
        "There are 10 birds. 4 fly away, then 1 comes back. How many are there?",
        {"kind": "number", "value": 7},
    ),
    (
        "sentence",
        "critical",
        "Write one sentence about the sea.",
        {"kind": "sentence", "min_words": 5, "contains": "sea"},
    ),
    (
        "sentence",
        "critical",
        "Explain what rain is.",
        {"kind": "sentence", "min_words": 5, "contains": "rain"},
    ),
    (
        "sentence",
        "major",
        "Why do people sleep?",
        {"kind": "sentence", "min_words": 5, "contains": "sleep"},
    ),
    (
        "sentence",
        "minor",
        "Describe a dog in one sentence.",
        {"kind": "sentence", "min_words": 5, "contains": "dog"},
    ),
    (
        "json",
        "major",
        'Give a JSON object with the key "name", such as {"name": "Ann"}.',
        {"kind": "json_keys", "keys": ["name"]},
    ),
    (
        "json",
        "minor",
        'Describe Paris as JSON with the keys "city" and "country".',
        {"kind": "json_keys", "keys": ["city", "country"]},
    ),
    (
        "json",
        "minor",
        'Write a JSON object with the keys "title" and "year" for a book.',
        {"kind": "json_keys", "keys": ["title", "year"]},
    ),
]


def evaluation(packages: Mapping[str, str]) -> Iterator[dict[str, Any]]:
    """One row for each prompt, with the check its answer has to pass."""
    for number, (category, severity, prompt, check) in enumerate(CHECKS, start=1):
        yield {
            "group": "behaviour",
            "category": category,
            "cluster": f"behaviour {number}",
            "prompt": prompt,
            "choices": [],
            "answer": None,
            "check": json.dumps(check, sort_keys=True),
            "severity": severity,
            "location": str(number),
        }
