"""Was a document trained on, and why: its decision in curation, and the draw of the stage that read its table."""

from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pyarrow.parquet as pq

from lmadapt.core.dvc_store import fetch
from lmadapt.core.errors import UserError
from lmadapt.provenance.lineage import Lineage, output_md5

READ_BY = {  # table: the stage that trains on it; of each stage first the domain's, then what is replayed
    "corpus": "pretrain",
    "replay_text": "pretrain",
    "instructions": "sft",
    "replay_instructions": "sft",
}
DRAWN = {
    True: "it is one of these: the draw, repeated, holds it",
    False: "it is not one of these: the draw, repeated, leaves it out",
    None: "whether it is one of these cannot be said: this version of lmadapt draws otherwise",
}


def read_stored(lineage: Lineage, table: Path) -> list[dict[str, Any]]:
    """Rows of a table that the version's run wrote into a folder, as DVC keeps it; UserError when it does not."""
    with TemporaryDirectory() as temp:
        fetch(
            output_md5(lineage, table.parent),
            lineage["dvc_stores"],
            Path(temp),
            lambda name: name == table.name,
        )
        return list(pq.read_table(Path(temp) / table.name).to_pylist())


def trace_document(lineage: Lineage, document: str) -> tuple[bool | None, list[str]]:
    """Whether the document was trained on (None: cannot be said any more), and the steps that led there.

    Raises UserError when the version's data had no such document, or DVC no longer has the decisions.
    """
    decisions = read_stored(lineage, Path("data/curated/decisions.parquet"))
    decision = next((row for row in decisions if row["id"] == document), None)
    if decision is None:
        raise UserError(
            f"no document {document!r} among the {len(decisions):,} rows of this version's data"
        )
    why = (
        f"rule {decision['rule']}: {decision['evidence']}"
        if decision["rule"]
        else "no rule objected"
    )
    kept = f"; kept instead: {decision['duplicate_of']}" if decision["duplicate_of"] else ""
    table = decision["split"]
    steps = [
        f"raw {decision['role']}: {decision['source']} {decision['location']}",
        f"curate: {decision['outcome']} ({why}{kept})",
    ]
    if (stage := READ_BY.get(table)) is None:
        return False, [*steps, f"it went to {table or 'no table'}, which no stage trains on"]
    counts = lineage["metrics"][stage]["replay" if "replay" in table else "domain"]
    used, available = counts["documents_used"], counts["documents_available"]
    drawn = document in ids if (ids := drawn_ids(lineage, stage, table)) is not None else None
    return drawn, [
        *steps,
        f"{stage}: read {table}, trained on {used:,} of {available:,} documents",
        DRAWN[drawn],
    ]


def drawn_ids(lineage: Lineage, stage: str, table: str) -> set[str] | None:
    """Ids of the table that `stage` trained on: its draw, repeated; None where that counts otherwise by now."""
    from lmadapt.models.chat import encode_conversation
    from lmadapt.models.loading import load_tokenizer
    from lmadapt.training.encoding import encode_documents
    from lmadapt.training.replay import mix_replay

    with TemporaryDirectory() as temp:
        md5 = output_md5(lineage, Path("models/pretrained"))
        fetch(
            md5, lineage["dvc_stores"], Path(temp), lambda name: not name.endswith(".safetensors")
        )
        tokenizer = load_tokenizer(Path(temp))
    params = lineage["params"][stage]
    longest, pools = params["max_sequence_tokens"], {}
    for name in (name for name, reader in READ_BY.items() if reader == stage):
        rows = read_stored(lineage, Path("data/curated") / f"{name}.parquet")
        if stage == "pretrain":
            documents = encode_documents(tokenizer, rows, max_tokens=longest)
        else:
            documents = [
                [replace(encode_conversation(tokenizer, row["messages"]), source=row["source"])]
                for row in rows
            ]
        ids = [row["id"] for row in rows]
        pools[name] = [
            pair
            for pair in zip(ids, documents, strict=True)
            if len(pair[1][0].input_ids) <= longest
        ]
    domain, replay = ([document for _, document in pool] for pool in pools.values())
    weights = params.get("replay_weights", {})
    options = {
        "fraction": params["replay_fraction"],
        "max_tokens": params["max_tokens"],
        "seed": params["seed"],
    }
    mixture = mix_replay(domain, replay, weights=weights, **options)
    if any(lineage["metrics"][stage].get(key) != value for key, value in mixture.metrics().items()):
        return None
    drawn = (mixture.replay if "replay" in table else mixture.domain).drawn
    return {pools[table][place][0] for place, _ in drawn}
