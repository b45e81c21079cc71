"""What curation is measured on.

Real files of this machine with planted leaks and with planted near-duplicates of known similarity,
and labelled sentences with personal data from a generator that knows nothing of our rules.
"""

import os
import random
import string
import sys
import sysconfig
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lmadapt.core.tables import RAW_TABLES, write_table
from lmadapt.curation.word_hashes import normal_form

if TYPE_CHECKING:
    from faker import Faker

SUFFIXES = {
    ".py",
    ".pyi",
    ".pyx",
    ".h",
    ".hpp",
    ".c",
    ".cpp",
    ".js",
    ".css",
    ".md",
    ".rst",
    ".txt",
    ".html",
    ".json",
    ".yaml",
    ".xml",
    ".csv",
    ".cmake",
    ".pm",
    ".pl",
    ".vim",
}
ROOTS = [
    sysconfig.get_path("purelib"),
    sysconfig.get_path("stdlib"),
    "/usr/include",
    "/usr/lib/python3",
    "/usr/share",
]
PLANTED_SHARE = 0.25  # of the bytes
JACCARD = (0.5, 1.0)  # of a planted near-duplicate with its original, uniform
WORDS = ["".join(random.Random(n).choices(string.ascii_lowercase, k=8)) for n in range(5000)]


@dataclass
class Planted:
    """What a corpus holds that curation should find."""

    pairs: list[tuple[str, str, float]] = field(default_factory=list)  # original, copy, Jaccard
    leaks: dict[str, str] = field(default_factory=dict)  # the leaked item of a document, by ids
    megabytes: float = 0.0  # of the whole corpus


def shingles(text: str) -> set[tuple[str, ...]]:
    """The 5-word runs of a text, computed the slow way."""
    words = normal_form(text).split()
    return {tuple(words[place : place + 5]) for place in range(max(1, len(words) - 4))}


def jaccard(one: set[Any], other: set[Any]) -> float:
    """The Jaccard similarity of two sets."""
    return len(one & other) / max(1, len(one | other))


def real_files(seed: int, roots: Sequence[str]) -> list[Path]:
    """Text files of 500 bytes to 200 kB below the roots, each once, in an order drawn by `seed`."""
    found = {}
    for file in walk_files(roots):
        if file.suffix in SUFFIXES and file.is_file() and not file.is_symlink():
            status = file.stat()
            if 500 <= status.st_size <= 200_000:
                found[status.st_ino] = file
    files = sorted(found.values())
    random.Random(seed).shuffle(files)
    return files


def walk_files(roots: Sequence[str]) -> Iterator[Path]:
    """Every file below the roots."""
    for root in roots:
        for folder, _, names in os.walk(root):
            yield from (Path(folder, name) for name in names)


def write_corpus(
    raw: Path,
    megabytes: float,
    items: list[dict[str, Any]],
    *,
    seed: int,
    exact: bool,
    roots: Sequence[str],
) -> Planted:
    """Write raw tables: the items and a corpus of about this size, with planted copies and leaks.

    The corpus comes from files below `roots`. With `exact` the similarity of every planted copy is
    computed, which takes longer than all the rest.
    """
    planted = Planted()
    raw.mkdir(parents=True)
    files = real_files(seed, roots)
    documents = _documents(files, megabytes * 1e6, items, planted, seed=seed, exact=exact)
    write_table(documents, RAW_TABLES["corpus"], raw / "corpus.parquet")
    for role in ("general_text", "instructions", "general_instructions"):
        write_table([], RAW_TABLES[role], raw / f"{role}.parquet")
    write_table(items, RAW_TABLES["evaluation"], raw / "evaluation.parquet")
    return planted


def _documents(
    files: Sequence[Path],
    total: float,
    items: list[dict[str, Any]],
    planted: Planted,
    *,
    seed: int,
    exact: bool,
) -> Iterator[dict[str, Any]]:
    draw, size, number = random.Random(seed), 0, 0
    for file in files:
        try:
            text = file.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue
        if size >= total:
            break
        if items and draw.random() < 0.01:
            item = draw.choice(items)
            planted.leaks[str(number)] = item["id"]
            text = f"{text}\n{item['prompt']}\n"
        copies = [1] if draw.random() < PLANTED_SHARE / (1 - PLANTED_SHARE) else []
        for version in (text, *(near_copy(text, draw) for _ in copies)):
            yield {
                "id": str(number),
                "text": version,
                "entity": "",
                "source": "files",
                "location": str(file),
            }
            size += len(version.encode())
            number += 1
        if copies and exact:
            similarity = jaccard(shingles(text), shingles(version))
            planted.pairs.append((str(number - 2), str(number - 1), similarity))
    planted.megabytes = size / 1e6
    if size < total:
        print(f"only {size / 1e6:.0f} MB of text files on this machine", file=sys.stderr)


def near_copy(text: str, draw: random.Random) -> str:
    """The text with some words replaced: its similarity is about a value drawn from JACCARD."""
    wanted, words = draw.uniform(*JACCARD), text.split(" ")
    count = max(1, round(len(words) * (1 - wanted) / (5 * (1 + wanted))))
    for place in draw.sample(range(len(words)), min(count, len(words))):
        words[place] = draw.choice(WORDS)
    return " ".join(words)


def make_items(count: int, seed: int) -> list[dict[str, Any]]:
    """Questions of 16 to 31 words that no file contains."""
    draw = random.Random(seed)
    items = []
    for number in range(count):
        made_up = " ".join(draw.choices(WORDS, k=draw.randint(10, 25)))
        items.append(
            {
                "id": f"item/{number}",
                "group": "general",
                "category": "made",
                "cluster": f"c{number}",
                "prompt": f"Which of these is meant by {made_up}?",
                "choices": ["one", "two"],
                "answer": 0,
                "check": "",
                "severity": "",
                "source": "made",
                "location": str(number),
            }
        )
    return items


LOCALES = ["en_US", "en_GB", "de_DE", "fr_FR", "es_ES", "it_IT", "nl_NL", "sv_SE"]
SENTENCES = {
    "emails": [
        "Write to {} today.",
        "{} asked for a refund",
        "From: {}\nSubject: hello",
        "cc {}, please",
    ],
    "phones": [
        "Call me at {}.",
        "Tel. {}",
        "Her mobile is {}, after six.",
        "Phone: {}",
        "Ring {} to book a table",
    ],
    "ip_addresses": [
        "Login from {} failed",
        "host={} port=22",
        "The server at {} is down.",
        "{} - - GET /index",
    ],
    "cards": [
        "Paid with {}.",
        "Card number {}, please charge it",
        "card: {}",
        "My Visa {} was declined",
    ],
    "ibans": ["Transfer to {}.", "IBAN {}", "My account is {}, thanks", "iban: {}"],
    "api_keys": [
        "export API_KEY={}",
        'api_key = "{}"',
        "token: {}",
        "The secret is in the config: secret_key={}",
    ],
    "private_keys": ["key:\n{}\n", "Here it is\n{}\nkeep it safe"],
}
HARMLESS = [
    "Version {v} was released on {date}.",
    "It costs {price} dollars for {count} pieces.",
    "ISBN {isbn}, page {count}.",
    "See section {v} of the manual, {year} edition.",
    "The commit {sha} broke the build.",
    "Order {order} was shipped.",
    "{count} of {big} rows were read at {time}.",
    "Postcode {zip}, room {count}, floor {small}.",
    "uuid {uuid}",
    "Use @decorator or user@localhost in line {count}.",
    "The ratio is {price} to {price}, see figure {v}.",
]


def labelled_sentences(count: int, seed: int) -> Iterator[tuple[str, str, str]]:
    """Kind, sentence and the value in it: `count` of each kind, and as many harmless ones.

    A harmless sentence has the kind "" and the value "".
    """
    from faker import Faker

    fakers = [Faker(locale) for locale in LOCALES]
    for number, one in enumerate(fakers):
        one.seed_instance(seed + number)
    draw = random.Random(seed)
    for kind, sentences in SENTENCES.items():
        for _ in range(count):
            value = _value(kind, draw.choice(fakers), draw)
            yield kind, draw.choice(sentences).format(value), value
    for _ in range(count * len(SENTENCES)):
        yield "", _harmless(draw.choice(fakers), draw), ""


def _value(kind: str, one: "Faker", draw: random.Random) -> str:
    def characters(count: int, alphabet: str = string.ascii_letters + string.digits) -> str:
        return "".join(draw.choices(alphabet, k=count))

    keys = {
        "aws": lambda: "AKIA" + characters(16, string.ascii_uppercase + string.digits),
        "github": lambda: "ghp_" + characters(36),
        "slack": lambda: f"xoxb-{characters(12, string.digits)}-{characters(24)}",
        "stripe": lambda: "sk_live_" + characters(24),
        "hex": lambda: characters(40, "0123456789abcdef"),
        "random": lambda: characters(32),
    }
    body = "\n".join(characters(64) for _ in range(12))
    size = 4 if draw.random() < 0.3 else 99
    return {
        "emails": draw.choice([one.email, one.company_email, one.free_email])(),
        "phones": one.phone_number(),
        "ip_addresses": draw.choice([one.ipv4, one.ipv4, one.ipv6])(),
        "cards": " ".join(_groups(one.credit_card_number(), size)),
        "ibans": " ".join(_groups(one.iban(), size)),
        "api_keys": keys[draw.choice(list(keys))](),
        "private_keys": f"-----BEGIN RSA PRIVATE KEY-----\n{body}\n-----END RSA PRIVATE KEY-----",
    }[kind]


def _groups(value: str, size: int) -> list[str]:
    return [value[place : place + size] for place in range(0, len(value), size)]


def _harmless(one: "Faker", draw: random.Random) -> str:
    return draw.choice(HARMLESS).format(
        v=".".join(str(draw.randint(0, 30)) for _ in range(draw.randint(2, 4))),
        date=one.date(),
        year=one.year(),
        price=f"{draw.uniform(1, 9999):,.2f}",
        count=draw.randint(1, 9999),
        big=f"{draw.randint(10**4, 10**9):,}",
        isbn=one.isbn13(),
        sha=one.sha1(),
        order=draw.randint(10**7, 10**10),
        time=one.time(),
        zip=one.postcode(),
        small=draw.randint(0, 20),
        uuid=one.uuid4(),
    )
