"""Small talk and trivia from chatterbot-corpus: trivia is evaluated, the rest is replayed."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from demo.items import Fact, choice_items, instruction, words
from demo.packages import unpacked

FOLDER = Path("chatterbot_corpus/data/english")
EVALUATED = "trivia"
# Left out are code, insults and talk about being a machine: ai, botprofile, coding, computers,
# gossip and psychology.
REPLAYED = (
    "conversations",
    "emotion",
    "food",
    "greetings",
    "health",
    "history",
    "humor",
    "literature",
    "money",
    "movies",
    "politics",
    "science",
    "sports",
    "tech_support",
)
MACHINE = words(
    "robot robots software computer program programmed processor hal machine electricity capable"
)
ECHO = words("what is a an the it")  # a reply that adds only these to the question says nothing
REPLIES = 2  # at most, to one question
LIMIT = 280  # items


def general_instructions(packages: Mapping[str, str]) -> Iterator[dict[str, Any]]:
    """Questions and replies of the replayed topics; at most REPLIES to a question, all sound."""
    folder = unpacked("chatterbot-corpus", packages) / FOLDER
    evaluated = {_entity(question) for question, _ in _pairs(folder, EVALUATED)}
    replies: dict[str, list[str]] = {}
    for topic in REPLAYED:
        for question, reply in _pairs(folder, topic):
            entity = _entity(question)
            known = replies.setdefault(entity, [])
            if entity in evaluated or reply in known or len(known) == REPLIES:
                continue
            if not _sound(question, reply):
                continue
            known.append(reply)
            yield instruction(Fact(topic, topic, entity, question, reply, number=len(known)))


def evaluation(packages: Mapping[str, str]) -> Iterator[dict[str, Any]]:
    """Trivia questions; a distractor is as many words long as the answer, or a number like it."""
    facts: dict[str, Fact] = {}
    for question, answer in _pairs(unpacked("chatterbot-corpus", packages) / FOLDER, EVALUATED):
        entity = _entity(question)
        shape = "number" if answer.isdecimal() else f"{min(3, len(answer.split()))} words"
        facts.setdefault(entity, Fact(EVALUATED, shape, entity, question, answer))
    yield from choice_items(facts.values(), group="general", limit=LIMIT)


def _pairs(folder: Path, topic: str) -> Iterator[tuple[str, str]]:
    """Every remark in a topic's conversations, with the reply to it."""
    content = YAML(typ="safe").load((folder / f"{topic}.yml").read_text(encoding="utf-8"))
    for conversation in content["conversations"]:
        if not isinstance(conversation, list):
            continue
        turns = [" ".join(str(turn).split()) for turn in conversation]
        for said, reply in zip(turns[::2], turns[1::2], strict=False):
            if said and reply:
                yield _capitalised(said), _capitalised(reply)


def _capitalised(text: str) -> str:
    text = text.lower() if text.isupper() else text
    return text[:1].upper() + text[1:]


def _entity(question: str) -> str:
    return " ".join(sorted(words(question)))


def _sound(question: str, reply: str) -> bool:
    """Whether both have a sensible length, the reply is no echo and neither is about machines."""
    return (
        2 <= len(question.split()) <= 25
        and len(reply.split()) <= 40
        and not words(reply) <= words(question) | ECHO
        and not MACHINE & (words(question) | words(reply))
    )
