"""Was a document trained on, and why: its decision in curation, and the draw of the stages that read its table."""

from pathlib import Path
from tempfile import TemporaryDirectory

import pyarrow.compute as pc

from lmadapt.dvc_store import fetch_folder
from lmadapt.errors import UserError
from lmadapt.lineage import Lineage, output_md5
from lmadapt.records import DECISION, DOCUMENT, INSTRUCTION, read_table

READ_BY = {  # table: the stage that trains on it
    "corpus": "pretrain",
    "replay_text": "pretrain",
    "instructions": "sft",
    "replay_instructions": "sft",
}
CURATED = "data/curated"
DRAWN = {
    True: "it is one of these: the draw, repeated, holds it",
    False: "it is not one of these: the draw, repeated, leaves it out",
    None: "whether it is one of these cannot be said: this version of lmadapt draws otherwise",
}


def trace_document(lineage: Lineage, document: str) -> tuple[bool | None, list[str]]:
    """Whether the document was trained on (None: cannot be said any more), and the steps that led there.

    Raises UserError when the version's data had no such document, or DVC no longer has the decisions.
    """
    with TemporaryDirectory() as temp:
        folder = Path(temp)
        md5, stores = output_md5(lineage, CURATED), lineage["dvc_stores"]
        if md5 is None:
            raise UserError(f"this version was registered without {CURATED} in dvc.lock: its documents are unknown")
        fetch_folder(md5, stores, folder)
        decisions = read_table(folder / "decisions.parquet", DECISION)
        found = decisions.filter(pc.equal(decisions["id"], document)).to_pylist()
        if not found:
            raise UserError(f"no document {document!r} among the {decisions.num_rows:,} rows of this version's data")
        decision = found[0]
        steps = [f"raw {decision['role']}: {decision['source']} {decision['location']}"]
        why = f"rule {decision['rule']}: {decision['evidence']}" if decision["rule"] else "no rule objected"
        steps.append(f"curate: {decision['outcome']} ({why})")
        if decision["duplicate_of"]:
            steps.append(f"curate: {decision['duplicate_of']} was kept instead")
        stage = READ_BY.get(decision["split"])
        if stage is None:
            table = f"{decision['split']}, which no stage trains on" if decision["split"] else "no table"
            return False, [*steps, f"went to {table}"]
        counts = lineage["metrics"][stage]["replay" if "replay" in decision["split"] else "domain"]
        used, available = counts["documents_used"], counts["documents_available"]
        steps.append(f"{stage}: read {decision['split']}, trained on {used:,} of {available:,} documents")
        if used == available:
            return True, steps
        drawn = _was_drawn(lineage, folder, stage, decision["split"], document)
        return drawn, [*steps, DRAWN[drawn]]


def _was_drawn(lineage: Lineage, folder: Path, stage: str, table: str, document: str) -> bool | None:
    """Repeat the stage's draw, which its seed decides; None where its counts are not those of the version."""
    from lmadapt.chat import encode_conversation
    from lmadapt.encoding import encode_documents
    from lmadapt.models import load_tokenizer
    from lmadapt.replay import mix_replay

    md5 = output_md5(lineage, "models/pretrained")
    if md5 is None:
        return None
    fetch_folder(md5, lineage["dvc_stores"], folder / "model", only=lambda name: not name.endswith(".safetensors"))
    tokenizer = load_tokenizer(folder / "model")
    params, ids, pools = lineage["params"][stage], [], []
    max_tokens = params["max_sequence_tokens"]
    for name in (table for table, reader in READ_BY.items() if reader == stage):
        rows = read_table(folder / f"{name}.parquet", DOCUMENT if stage == "pretrain" else INSTRUCTION).to_pylist()
        if stage == "pretrain":
            documents = encode_documents(tokenizer, [row["text"] for row in rows], max_tokens=max_tokens)
        else:
            documents = [[encode_conversation(tokenizer, row["messages"])] for row in rows]
        fitting = [
            (row["id"], one) for row, one in zip(rows, documents, strict=True) if len(one[0].input_ids) <= max_tokens
        ]
        ids.append([row_id for row_id, _ in fitting])
        pools.append([one for _, one in fitting])
    mixture = mix_replay(
        *pools, fraction=params["replay_fraction"], max_tokens=params["max_tokens"], seed=params["seed"]
    )
    if any(lineage["metrics"][stage][key] != value for key, value in mixture.metrics().items()):
        return None
    replayed = "replay" in table
    used = (mixture.replay if replayed else mixture.domain).used_documents
    return document in {ids[replayed][index] for index in used}
