"""Rules for what is too short, too long, too repetitive or too broken to use, and why.

FILTERS has the published limits. They were set for pages of the open web. Curated domain text
has short entries that carry facts, so the demo uses few filters, with far lower bounds.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from lmadapt.curation.text_statistics import measure
from lmadapt.curation.word_hashes import Words
from lmadapt.sources.answer_checks import check_problem

# A filter is min_ or max_ and a statistic of lmadapt.curation.text_statistics, with the limit
# that its authors use. Gopher: Rae et al. 2021, section A1.1 and table A1; C4: Raffel et al.
# 2020; FineWeb: Penedo et al. 2024.
FILTERS: dict[str, float] = {
    # Gopher
    "min_words": 50,
    "max_words": 100_000,
    "min_mean_word_characters": 3,
    "max_mean_word_characters": 10,
    "max_symbols_per_word": 0.1,
    "min_alphabetic_word_fraction": 0.8,
    "min_stop_words": 2,
    "max_bullet_line_fraction": 0.9,
    "max_ellipsis_line_fraction": 0.3,
    "max_repeated_line_fraction": 0.3,
    "max_repeated_line_character_fraction": 0.2,
    "max_top_2gram_fraction": 0.2,
    "max_top_3gram_fraction": 0.18,
    "max_top_4gram_fraction": 0.16,
    "max_repeated_5gram_fraction": 0.15,
    "max_repeated_6gram_fraction": 0.14,
    "max_repeated_7gram_fraction": 0.13,
    "max_repeated_8gram_fraction": 0.12,
    "max_repeated_9gram_fraction": 0.11,
    "max_repeated_10gram_fraction": 0.1,
    # C4
    "min_sentences": 3,
    "max_curly_brackets": 0,
    "max_lorem_ipsum": 0,
    # FineWeb
    "min_punctuated_line_fraction": 0.12,
    "max_short_line_fraction": 0.67,
    "max_lines_per_word": 0.3,
    # Ours: share of letters and white space in the characters
    "min_alphabetic_fraction": 0.6,
}
Problem = tuple[str, str]  # rule, evidence
ITEM_GROUPS = ("domain", "general", "behaviour", "fairness")
SEVERITIES = ("critical", "major", "minor")


def text_problems(
    texts: pa.Array, words: Words, filters: Mapping[str, float], *, count_digits: bool = False
) -> list[Problem | None]:
    """For each text the first filter it fails, with what was measured; None if it passes all.

    `filters` are limits by name, of FILTERS. With `count_digits`, digits count as letters: an
    answer such as "42" is sound.
    """
    statistics = {key: key.partition("_")[2] for key in filters}
    if count_digits and "min_alphabetic_fraction" in statistics:
        statistics["min_alphabetic_fraction"] = "alphanumeric_fraction"
    measured = measure(texts, words, set(statistics.values()))
    problems: list[Problem | None] = [None] * len(texts)
    for key, limit in reversed(list(filters.items())):  # the first filter overwrites later ones
        least, values = key.startswith("min_"), measured[statistics[key]]
        name, sign = key.partition("_")[2].replace("_", " "), "<" if least else ">"
        for place in np.flatnonzero(values < limit if least else values > limit).tolist():
            problems[place] = (key, f"{name} {values[place]:.3g} {sign} {limit:g}")
    return problems


def conversation_problem(messages: Sequence[Mapping[str, str]]) -> Problem | None:
    """Why a conversation cannot be trained on; None if it can.

    Allowed are an optional system message, then user and assistant in turn, the assistant last,
    and none of them empty. Rules: `role_order`, `empty_question`, `empty_completion`.
    """
    roles = [message["role"] for message in messages]
    turns = roles[1:] if roles[:1] == ["system"] else roles
    if not turns or len(turns) % 2 or turns != ["user", "assistant"] * (len(turns) // 2):
        found = ", ".join(map(str, roles)) or "none"
        return "role_order", f"roles {found}; expected [system,] user, assistant, ..."
    for place, message in enumerate(messages, start=1):
        if not (message["content"] or "").strip():
            rule = "empty_completion" if message["role"] == "assistant" else "empty_question"
            return rule, f"message {place} of {len(messages)} ({message['role']}) is empty"
    return None


def item_problem(item: Mapping[str, Any]) -> str:
    """What is broken in an evaluation item, as a sentence; "" if it can be asked and scored."""
    if not item["prompt"]:
        return "the prompt is empty"
    if item["group"] not in ITEM_GROUPS:
        return f"group {item['group']!r}; allowed: {', '.join(ITEM_GROUPS)}"
    if item["group"] == "behaviour" and item["severity"] not in SEVERITIES:
        return f"severity {item['severity']!r}; allowed: {', '.join(SEVERITIES)}"
    if item["group"] == "behaviour" or item["check"]:
        return check_problem(item["check"])
    return _choice_problem(item)


def _choice_problem(item: Mapping[str, Any]) -> str:
    choices, answer = item["choices"] or [], item["answer"]
    if len(choices) < 2:
        return f"{len(choices)} choices; a multiple-choice item needs two or more"
    if "" in choices or None in choices:
        return f"choice {[bool(choice) for choice in choices].index(False)} is empty"
    if len(set(choices)) < len(choices):
        return f"two choices are the same: {' | '.join(choices)[:200]}"
    if item["group"] == "fairness":
        return _pair_problem(len(choices), answer)
    if answer is None or not 0 <= answer < len(choices):
        return f"answer {answer} is not an index into {len(choices)} choices"
    return ""


def _pair_problem(count: int, answer: Any) -> str:
    if count > 2:
        return f"{count} choices; a pair of the fairness probe has two"
    return "" if answer in (None, 0, 1) else f"answer {answer}; allowed: 0, 1 or none"
