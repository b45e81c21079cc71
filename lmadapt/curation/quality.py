"""What is too short, too long, too repetitive or too broken to learn from or to measure with, and why.

FILTERS has the published limits. They were set for pages of the open web; curated domain text has short entries that
carry facts, so the demo uses few of them, with lower bounds far below theirs.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from lmadapt.curation.text_statistics import measure
from lmadapt.curation.word_hashes import Words
from lmadapt.sources.answer_checks import check_problem

# Filters by name: min_ or max_ and a statistic of lmadapt.curation.text_statistics, with the limit their authors use.
# Gopher: Rae et al. 2021, section A1.1 and table A1; C4: Raffel et al. 2020; FineWeb: Penedo et al. 2024.
FILTERS: dict[str, float] = {
    "min_words": 50, "max_words": 100_000,  # Gopher
    "min_mean_word_characters": 3, "max_mean_word_characters": 10, "max_symbols_per_word": 0.1,  # Gopher
    "min_alphabetic_word_fraction": 0.8, "min_stop_words": 2,  # Gopher
    "max_bullet_line_fraction": 0.9, "max_ellipsis_line_fraction": 0.3,  # Gopher
    "max_repeated_line_fraction": 0.3, "max_repeated_line_character_fraction": 0.2,  # Gopher
    "max_top_2gram_fraction": 0.2, "max_top_3gram_fraction": 0.18, "max_top_4gram_fraction": 0.16,  # Gopher
    "max_repeated_5gram_fraction": 0.15, "max_repeated_6gram_fraction": 0.14, "max_repeated_7gram_fraction": 0.13,
    "max_repeated_8gram_fraction": 0.12, "max_repeated_9gram_fraction": 0.11, "max_repeated_10gram_fraction": 0.1,
    "min_sentences": 3, "max_curly_brackets": 0, "max_lorem_ipsum": 0,  # C4
    "min_punctuated_line_fraction": 0.12, "max_short_line_fraction": 0.67, "max_lines_per_word": 0.3,  # FineWeb
    "min_alphabetic_fraction": 0.6,  # ours: share of letters and white space in the characters
}  # fmt: skip
Problem = tuple[str, str]  # rule, evidence
ITEM_GROUPS = ("domain", "general", "behaviour", "fairness")
SEVERITIES = ("critical", "major", "minor")


def text_problems(
    texts: pa.Array, words: Words, filters: Mapping[str, float], *, count_digits: bool = False
) -> list[Problem | None]:
    """For each text the first filter it fails, with what was measured; None when it passes them all.

    `filters` are limits by name, of FILTERS. With `count_digits`, digits count as letters: "42" is no noise.
    """
    names = {key: key[4:] for key in filters}
    if count_digits and "min_alphabetic_fraction" in names:
        names["min_alphabetic_fraction"] = "alphanumeric_fraction"
    measured = measure(texts, words, set(names.values()))
    problems: list[Problem | None] = [None] * len(texts)
    for key, limit in reversed(list(filters.items())):
        values, least = measured[names[key]], key.startswith("min_")
        for place in np.flatnonzero(values < limit if least else values > limit).tolist():
            told = (
                f"{key[4:].replace('_', ' ')} {values[place]:.3g} {'<' if least else '>'} {limit:g}"
            )
            problems[place] = (key, told)
    return problems


def conversation_problem(messages: Sequence[Mapping[str, str]]) -> Problem | None:
    """Why a conversation cannot be trained on: `role_order`, `empty_question` or `empty_completion`.

    Allowed: an optional system message, then user and assistant in turn, the assistant last; none of them empty.
    """
    roles = [message["role"] for message in messages]
    turns = roles[1:] if roles[:1] == ["system"] else roles
    if not turns or len(turns) % 2 or turns != ["user", "assistant"] * (len(turns) // 2):
        return (
            "role_order",
            f"roles {', '.join(map(str, roles)) or 'none'}; expected [system,] user, assistant, ...",
        )
    for place, message in enumerate(messages, start=1):
        if not (message["content"] or "").strip():
            empty = "empty_completion" if message["role"] == "assistant" else "empty_question"
            return empty, f"message {place} of {len(messages)} ({message['role']}) is empty"
    return None


def item_problem(item: Mapping[str, Any]) -> str:
    """What is broken in an evaluation item, as a sentence; "" when it can be asked and scored."""
    if not item["prompt"]:
        return "the prompt is empty"
    if item["group"] not in ITEM_GROUPS:
        return f"group {item['group']!r} is none of {', '.join(ITEM_GROUPS)}"
    if item["group"] == "behaviour" and item["severity"] not in SEVERITIES:
        return f"severity {item['severity']!r} is none of {', '.join(SEVERITIES)}"
    if item["group"] == "behaviour" or item["check"]:
        return check_problem(item["check"])
    return _choice_problem(item)


def _choice_problem(item: Mapping[str, Any]) -> str:
    choices, answer = item["choices"] or [], item["answer"]
    if len(choices) < 2:
        return f"{len(choices)} choices; a multiple-choice item needs two or more"
    if any(not choice for choice in choices):
        return f"choice {[bool(choice) for choice in choices].index(False)} is empty"
    if len(set(choices)) < len(choices):
        return f"two choices are the same: {' | '.join(choices)[:200]}"
    if item["group"] == "fairness":
        return (
            ""
            if len(choices) == 2
            else f"{len(choices)} choices; a pair of the fairness probe has two"
        )
    if answer is None or not 0 <= answer < len(choices):
        return f"answer {answer} is no index into {len(choices)} choices"
    return ""
