"""Rows of the tables between stages, and small files of them."""

from pathlib import Path
from typing import Any

from lmadapt.core.tables import DOCUMENT, HELDOUT, INSTRUCTION, write_table

SOURCES = ("facts", "talk")  # of general data, in turn


def document(number: int, text: str) -> dict[str, Any]:
    return {
        "id": f"made/{number}",
        "text": text,
        "entity": "",
        "source": "made",
        "location": str(number),
    }


def instruction(number: int, question: str, answer: str) -> dict[str, Any]:
    messages = [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
    return {
        "id": f"made/{number}",
        "messages": messages,
        "category": "made",
        "entity": "",
        "source": "made",
        "location": str(number),
    }


def write_texts(folder: Path) -> tuple[Path, Path]:
    """A corpus of 40 documents of different lengths, and 20 general texts."""
    corpus, replay = folder / "corpus.parquet", folder / "replay.parquet"
    weakness = "The weakness {} lets an attacker read a buffer. "
    write_table(
        [document(n, weakness.format(n) * (1 + n % 7)) for n in range(40)], DOCUMENT, corpus
    )
    fact = "Numbers: {} 2 3. Paris is the capital of France. "
    general = [
        document(n, fact.format(n) * (1 + n % 3)) | {"source": SOURCES[n % 2]} for n in range(20)
    ]
    write_table(general, DOCUMENT, replay)
    return corpus, replay


def write_instructions(folder: Path) -> tuple[Path, Path]:
    """40 domain questions and 40 general ones, with their answers."""
    domain, replay = folder / "instructions.parquet", folder / "replay_instructions.parquet"
    asked = [
        instruction(n, f"What is weakness {n}?", f"SQL injection number {n % 9}") for n in range(40)
    ]
    general = [
        instruction(n, f"What is {n} and {n}?", f"The number {n + n}") | {"source": SOURCES[n % 2]}
        for n in range(40)
    ]
    write_table(asked, INSTRUCTION, domain)
    write_table(general, INSTRUCTION, replay)
    return domain, replay


def write_heldout(folder: Path) -> Path:
    """Eight texts of the domain and eight general ones, like those that are trained on."""
    file = folder / "heldout.parquet"
    texts = {
        "domain": "The weakness {} lets an attacker write a buffer. ",
        "general": "Rome is number {} of Italy. ",
    }
    rows = []
    for group, text in texts.items():
        rows += [document(n, text.format(n)) | {"group": group} for n in range(100, 108)]
    write_table(rows, HELDOUT, file)
    return file
