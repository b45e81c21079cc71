"""Tells whether a version was trained on a document, and why.

It reads the document's decision in curation, then repeats the draw of the stage that read its
table.
"""

from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pyarrow.parquet as pq

from lmadapt.core.dvc_store import fetch
from lmadapt.core.errors import UserError
from lmadapt.provenance.document import Lineage

CURATED = Path("data/curated")
TRAINED_ON_BY = {  # table: stage; of each stage first the domain's table, then the replayed one
    "corpus": "pretrain",
    "replay_text": "pretrain",
    "instructions": "sft",
    "replay_instructions": "sft",
}
DRAWN = {
    True: "the document is one of these: the repeated draw holds it",
    False: "the document is not one of these: the repeated draw leaves it out",
    None: "it is unknown whether the document is one of these: this release of lmadapt draws "
    "other documents from the same data",
}


@dataclass(frozen=True)
class Trace:
    """Whether a document was trained on (None: unknown), and the steps that led there."""

    trained: bool | None
    steps: list[str]


def read_stored(lineage: Lineage, table: Path) -> list[dict[str, Any]]:
    """Rows of a table that the version's run wrote into a folder, read from DVC's stores.

    Raises UserError when no store holds it any more.
    """
    with TemporaryDirectory() as temp:
        fetch(
            lineage.output_md5(table.parent),
            lineage.dvc_stores,
            Path(temp),
            lambda name: name == table.name,
        )
        return list(pq.read_table(Path(temp) / table.name).to_pylist())


def trace_document(lineage: Lineage, document: str) -> Trace:
    """What became of the document with the id `document` in the run behind a version.

    Raises UserError when the version's data had no such document, or when DVC's stores no longer
    hold the decisions.
    """
    decision = _decision(lineage, document)
    table = decision["split"]
    stage = TRAINED_ON_BY.get(table)
    steps = [
        f"raw {decision['role']}: {decision['source']} {decision['location']}",
        f"curate: {decision['outcome']} ({_why(decision)})",
    ]
    if stage is None:
        return Trace(False, [*steps, f"no stage trains on it: it is in {table or 'no table'}"])
    counts = lineage.metrics[stage]["replay" if "replay" in table else "domain"]
    used, available = counts["documents_used"], counts["documents_available"]
    ids = drawn_ids(lineage, stage, table)
    drawn = None if ids is None else document in ids
    read = f"{stage}: read {table}, trained on {used:,} of {available:,} documents"
    return Trace(drawn, [*steps, read, DRAWN[drawn]])


def _decision(lineage: Lineage, document: str) -> dict[str, Any]:
    decisions = read_stored(lineage, CURATED / "decisions.parquet")
    for row in decisions:
        if row["id"] == document:
            return row
    raise UserError(
        f"no document {document!r} among the {len(decisions):,} documents of this version"
    )


def _why(decision: dict[str, Any]) -> str:
    if not decision["rule"]:
        return "no rule objected"
    why = f"rule {decision['rule']}: {decision['evidence']}"
    if decision["duplicate_of"]:
        why += f"; kept instead: {decision['duplicate_of']}"
    return why


def drawn_ids(lineage: Lineage, stage: str, table: str) -> set[str] | None:
    """Ids of the documents in `table` that `stage` trained on, found by repeating its draw.

    None when the repeated draw counts other documents or tokens than the stage did.
    """
    from lmadapt.training.replay import mix_replay

    pools = _pools(lineage, stage)
    domain, replay = ([document for _, document in pool] for pool in pools.values())
    params = lineage.params[stage]
    mixture = mix_replay(
        domain,
        replay,
        fraction=params["replay_fraction"],
        weights=params.get("replay_weights", {}),
        max_tokens=params["max_tokens"],
        seed=params["seed"],
    )
    recorded = lineage.metrics[stage]
    if any(recorded.get(key) != value for key, value in mixture.metrics().items()):
        return None
    drawn = (mixture.replay if "replay" in table else mixture.domain).drawn
    return {pools[table][place][0] for place, _ in drawn}


def _pools(lineage: Lineage, stage: str) -> dict[str, list[tuple[str, Any]]]:
    """By table: id and encoded text of each document that is short enough for the stage."""
    tokenizer = _tokenizer(lineage)
    longest = lineage.params[stage]["max_sequence_tokens"]
    pools = {}
    for table in (name for name, reader in TRAINED_ON_BY.items() if reader == stage):
        rows = read_stored(lineage, CURATED / f"{table}.parquet")
        documents = _encoded(rows, stage, tokenizer, longest)
        pairs = zip((row["id"] for row in rows), documents, strict=True)
        pools[table] = [pair for pair in pairs if len(pair[1][0].input_ids) <= longest]
    return pools


def _encoded(rows: list[dict[str, Any]], stage: str, tokenizer: Any, longest: int) -> Any:
    """The rows as the stage encodes them, one document a row."""
    from lmadapt.models.chat import encode_conversation
    from lmadapt.training.encoding import encode_documents

    if stage == "pretrain":
        return encode_documents(tokenizer, rows, max_tokens=longest)
    return [
        [replace(encode_conversation(tokenizer, row["messages"]), source=row["source"])]
        for row in rows
    ]


def _tokenizer(lineage: Lineage) -> Any:
    """The tokenizer of the version's run, read from DVC's stores."""
    from lmadapt.models.loading import load_tokenizer

    md5 = lineage.output_md5(Path("models/pretrained"))
    with TemporaryDirectory() as temp:
        fetch(md5, lineage.dvc_stores, Path(temp), lambda name: not name.endswith(".safetensors"))
        return load_tokenizer(Path(temp))
