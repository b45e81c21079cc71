"""Planted leaks among harmless texts that share templates, greetings and boilerplate with items."""

import random
from typing import Any

from benchmarks.curate_corpus import WORDS
from lmadapt.curation.decontamination import LeakFinder
from lmadapt.curation.word_hashes import split_words

ENTITIES = (3, 5, 10, 20)  # as many things as the items of one template are about
TEMPLATES = (
    "Classify the following support ticket into exactly one of the categories billing, delivery, "
    "returns or other. Ticket: {}",
    "You are a careful assistant. Read the description below and then name the one weakness that "
    "it describes. Description: {}",
    "Below is an instruction that describes a task. Write a response that appropriately completes "
    "the request.\n\n### Instruction:\n{}\n\n### Response:",
    "Hello, how are you? {}",
)
HARMLESS = (
    "Hello, how are you? I am fine, thank you, and I hope that you are well, too. {}",
    "Permission is hereby granted, free of charge, to any person obtaining a copy of this software "
    "and associated documentation files, to deal in it without restriction. {}",
)


def leak_rates(count: int, seed: int) -> dict[str, Any]:
    """Recall and precision of decontamination over `count` leaks and as many harmless texts.

    Each template has items about few things. A leak quotes a whole prompt; a harmless text has the
    template with other words, a greeting or a licence.
    """
    draw = random.Random(seed)
    right = found = leaks = 0
    for entities in ENTITIES:
        for template in TEMPLATES:
            items = _items(template, entities, draw)
            planted = [f"{_words(draw)}\n{draw.choice(items)['prompt']}" for _ in range(count)]
            harmless = [draw.choice((template, *HARMLESS)).format(_words(draw)) for _ in planted]
            finder = LeakFinder(items, ngram_words=13, in_corpus=False)
            texts = {leak.text for leak in finder.find(split_words([*planted, *harmless]))}
            right += sum(text < count for text in texts)
            found += len(texts)
            leaks += count
    row = {"what": "decontamination", "leaks": leaks, "found": found, "right": right}
    return row | {"recall": right / leaks, "precision": right / max(1, found)}


def _items(template: str, entities: int, draw: random.Random) -> list[dict[str, Any]]:
    return [
        {
            "id": f"i{number}",
            "group": "domain",
            "cluster": f"c{number % entities}",
            "prompt": template.format(_words(draw)),
            "choices": ["one", "two"],
            "answer": 0,
            "check": "",
        }
        for number in range(4 * entities)
    ]


def _words(draw: random.Random) -> str:
    return " ".join(draw.choices(WORDS, k=draw.randint(12, 25)))
