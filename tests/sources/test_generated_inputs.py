"""Two hundred generated inputs: encodings, containers, and damage at several places."""

import csv
import gzip
import io
import json
import random
from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from lmadapt.core.errors import UserError
from lmadapt.core.tables import BAD_RECORD, DOCUMENT, write_table
from lmadapt.sources.by_role import Source, read_source

INPUTS = 200
SENTENCES = [
    "Der Schlüssel liegt über der Tür, und niemand weiß, wer ihn zurückgelegt hätte.",
    "L'été dernier, la forêt brûlait près du château où nous étions déjà passés.",
    "El niño comió una piña, según contó su compañía después de la reunión.",
    "The key is above the door, and nobody knows who would have put it back.",
]
ENCODINGS = ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "cp1252"]
CONTAINERS = ["jsonl", "jsonl.gz", "csv", "csv.zst", "JSONL", "parquet", "txt", "html"]


def as_lines(texts: list[str], draw: random.Random, kind: str) -> str:
    if kind == "csv":
        table = io.StringIO()
        writer = csv.writer(table, delimiter=draw.choice(",;\t"), lineterminator="\n")
        writer.writerows([["text", "n"], *[[text, str(n)] for n, text in enumerate(texts)]])
        return table.getvalue()
    extra = draw.choice(["1", "7" * 5000, '"\\ud83d"', "[" * 50 + "]" * 50, '1, "n": 2'])
    return "".join(f'{{"text": {json.dumps(text)}, "n": {extra}}}\n' for text in texts)


def damaged(data: bytes, draw: random.Random, *, cut: bool) -> bytes:
    """The bytes as they are, or with something at a random place; `cut` allows to end there."""
    place = draw.randrange(len(data))
    ways = [
        data,
        data,
        data[:place] + b"\xe9" + data[place:],
        data[:place] + b"\xef\xbb\xbf" + data[place:],
        data[:place] + b"\0" + data[place:],
        data.replace(b"\n", b"\r\n"),
        data.rstrip(b"\n"),
        data + data,
        data[:place] if cut else data,  # a text file says nowhere how long it was
    ]
    return draw.choice(ways)


def write_input(folder: Path, texts: list[str], draw: random.Random) -> Path:
    container, encoding = draw.choice(CONTAINERS), draw.choice(ENCODINGS)
    file = folder / f"f.{container}"
    if container in ("txt", "html"):
        file = folder / "docs"
        file.mkdir()
        for number, text in enumerate(texts):
            page = f"<html><body><main><p>{text}</p></main></body></html>"
            content = (page if container == "html" else text).encode(encoding)
            content = damaged(content, draw, cut=False)
            (file / f"{number}.{container}").write_bytes(content)
        return file
    if container == "parquet":
        dates = pa.array([10**17] * len(texts), pa.timestamp("us"))
        pq.write_table(pa.table({"text": texts, "until": dates}), file)
        file.write_bytes(damaged(file.read_bytes(), draw, cut=True))
        return file
    lines = as_lines(texts, draw, container.partition(".")[0].lower())
    data = damaged(lines.encode(encoding, "surrogatepass"), draw, cut=True)
    if container.endswith("gz"):
        data = gzip.compress(data) + b"\0" * draw.choice([0, 512])
    elif container.endswith("zst"):
        data = pa.compress(data, codec="zstd", asbytes=True)
    file.write_bytes(data)
    return file


def whole(text: str, texts: list[str]) -> bool:
    """Whether a row holds one of the texts to its end; damage within it may add characters."""
    kept = Counter(text)
    return any(not Counter(one) - kept for one in texts)


def read(file: Path) -> tuple[list[Any], list[Any]] | UserError:
    """Rows and bad records, or the sentence with which reading stopped."""
    bad: list[dict[str, Any]] = []
    try:
        return list(read_source(Source(path=str(file)), "corpus", bad)), bad
    except UserError as error:
        return error


def make_texts(draw: random.Random) -> list[str]:
    count = draw.randint(1, 4)
    return [f"{number}. {' '.join(draw.choices(SENTENCES, k=4))}" for number in range(count)]


def test_no_generated_input_is_silently_short_and_none_ends_in_a_traceback(tmp_path: Path) -> None:
    outcomes: Counter[str] = Counter()
    for seed in range(INPUTS):
        draw = random.Random(seed)
        texts, folder = make_texts(draw), tmp_path / str(seed)
        folder.mkdir()
        file = write_input(folder, texts, draw)
        found = read(file)
        if isinstance(found, UserError):
            assert str(folder) in str(found), seed
            outcomes["refused"] += 1
            continue
        rows, bad = found
        write_table(rows, DOCUMENT, folder / "rows.parquet")
        write_table(bad, BAD_RECORD, folder / "bad.parquet")
        assert [row["text"] for row in rows if not whole(row["text"], texts)] == [], (seed, file)
        assert len(rows) + len(bad) >= len(texts) or file.suffix == ".zst", (seed, file)
        outcomes["put aside" if bad else "read"] += 1
    assert min(outcomes[kind] for kind in ("read", "put aside", "refused")) > INPUTS / 20, outcomes
