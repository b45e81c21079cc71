"""The curated tables as pandas frames with what can be measured about each row: tokens, leaks, duplicates, problems.

Every problem column is "" where there is none, and says what is wrong where there is one.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from lmadapt.chat import encode_conversation
from lmadapt.decisions import DOCUMENT_ROLES, INSTRUCTION_ROLES, Row
from lmadapt.decontamination import find_leaks
from lmadapt.errors import UserError
from lmadapt.near_duplicates import near_duplicates, overlaps, shingle
from lmadapt.quality import conversation_problem, item_problem
from lmadapt.records import CURATED_TABLES, read_table
from lmadapt.words import fold, split_words

Records = list[dict[str, Any]]
ROLE_OF = {
    "corpus": "corpus",
    "replay_text": "general_text",
    "heldout_text": "general_text",
    "instructions": "instructions",
    "replay_instructions": "general_instructions",
    "items": "evaluation",
}
TRAINING = ("corpus", "replay_text", "instructions", "replay_instructions")
PLACE = ["id", "source", "location"]


def read_curated(folder: Path) -> tuple[dict[str, Records], pd.DataFrame]:
    """The rows of each curated table, and a frame with one row a table, whose `schema_problem` is "" when it fits.

    A table of other columns is returned empty. Raises UserError when a file is missing or no Parquet.
    """
    tables, schemas = {}, []
    for name, schema in CURATED_TABLES.items():
        file = folder / f"{name}.parquet"
        found = _schema(file) if file.is_file() else schema
        fits = found.equals(schema)
        tables[name] = read_table(file, schema).to_pylist() if fits else []
        problem = "" if fits else f"expected {schema.to_string()}; found {found.to_string()}".replace("\n", ", ")
        schemas.append({"id": name, "source": file.name, "location": "", "schema_problem": problem})
    return tables, pd.DataFrame(schemas)


def _schema(file: Path) -> pa.Schema:
    try:
        return pq.read_schema(file).remove_metadata()
    except (pa.ArrowInvalid, OSError) as error:
        raise UserError(f"{file}: not a readable Parquet file: {error}") from None


def derive(
    tables: Mapping[str, Records], tokenizer: Any, *, near_duplicate_jaccard: float, decontaminate_ngram_words: int
) -> dict[str, pd.DataFrame]:
    """A frame for each curated table but `decisions`, one for the categories of its items, and one row of totals."""
    rows = {table: [Row(role, record) for record in tables[table]] for table, role in ROLE_OF.items()}
    ids = Counter(row.record["id"] for mine in rows.values() for row in mine if row.record["id"])
    columns: dict[str, dict[str, Sequence[Any]]] = {}
    for table, mine in rows.items():
        columns[table] = {name: [row.record[name] for row in mine] for name in PLACE}
        columns[table]["id_uses"] = [ids[row.record["id"]] for row in mine]
        columns[table] |= _DESCRIBE[ROLE_OF[table]](mine, tokenizer)
    duplicates = _near_duplicates(rows, near_duplicate_jaccard)
    for table in TRAINING:
        columns[table] |= _shared_text(rows, table, decontaminate_ngram_words)
        columns[table]["near_duplicate_of"] = [duplicates.get((table, n), "") for n in range(len(rows[table]))]
    frames = {table: pd.DataFrame(values) for table, values in columns.items()}
    return frames | {"categories": _categories(tables["items"]), "totals": _totals(tables, frames)}


def count_tokens(texts: Sequence[str], tokenizer: Any) -> list[int]:
    """Tokens of each text, without special tokens, in batches."""
    counts: list[int] = []
    for start in range(0, len(texts), 1000):
        batch = tokenizer(list(texts[start : start + 1000]), add_special_tokens=False)
        counts += [len(ids) for ids in batch["input_ids"]]
    return counts


def _documents(rows: Sequence[Row], tokenizer: Any) -> dict[str, Sequence[Any]]:
    texts = [row.record["text"] or "" for row in rows]
    return {
        "characters": [len(text.strip()) for text in texts],
        "tokens": count_tokens(texts, tokenizer),
        "group": [row.record.get("group") for row in rows],
    }


def _conversations(rows: Sequence[Row], tokenizer: Any) -> dict[str, Sequence[Any]]:
    problems = [conversation_problem(row.record["messages"] or ()) or ("", "") for row in rows]
    encoded = [_encode(row.record["messages"] or (), tokenizer) for row in rows]
    return {
        "role_order_problem": [text if rule == "role_order" else "" for rule, text in problems],
        "empty_message_problem": [text if rule.startswith("empty") else "" for rule, text in problems],
        "encoding_problem": [problem for _, _, problem in encoded],
        "tokens": [tokens for tokens, _, _ in encoded],
        "supervised_tokens": [supervised for _, supervised, _ in encoded],
    }


def _encode(messages: Sequence[Any], tokenizer: Any) -> tuple[int, int, str]:
    try:
        encoded = encode_conversation(tokenizer, messages)
    except Exception as error:  # a chat template is a program of the model's author and may raise anything
        return 0, 0, f"{type(error).__name__}: {error}"
    return len(encoded.input_ids), encoded.loss_tokens, ""


def _items(rows: Sequence[Row], tokenizer: Any) -> dict[str, Sequence[Any]]:
    records = [row.record for row in rows]
    longest = [max(record["choices"] or [""], key=len) or "" for record in records]
    return {
        "item_problem": [item_problem(record) for record in records],
        "question": ["\n".join([r["group"] or "", *map(fold, [r["prompt"] or "", *r["choices"]])]) for r in records],
        "tokens": count_tokens([f"{r['prompt']} {text}" for r, text in zip(records, longest, strict=True)], tokenizer),
    }


_DESCRIBE = {
    **dict.fromkeys(DOCUMENT_ROLES, _documents),
    **dict.fromkeys(INSTRUCTION_ROLES, _conversations),
    "evaluation": _items,
}


def _shared_text(rows: Mapping[str, list[Row]], table: str, ngram_words: int) -> dict[str, Sequence[Any]]:
    """Columns `heldout_twin` (the held-out document a text equals) and `leak` (the item it gives away, and how)."""
    twins = {fold(row.text): str(row.record["id"]) for row in rows["heldout_text"]}
    items = [row.record for row in rows["items"] if not item_problem(row.record)]
    parts = [(place, part) for place, row in enumerate(rows[table]) for part in row.parts]
    texts = split_words([part for _, part in parts])
    shared = {place: twins[fold(part)] for place, part in parts if fold(part) in twins}
    leaks = {
        parts[leak.text][0]: f"item {items[leak.item]['id']}: {leak.words}"
        for leak in find_leaks(texts, items, ngram_words=ngram_words, in_corpus=table == "corpus")
    }
    places = range(len(rows[table]))
    return {"heldout_twin": [shared.get(n, "") for n in places], "leak": [leaks.get(n, "") for n in places]}


def _near_duplicates(rows: Mapping[str, list[Row]], min_jaccard: float) -> dict[tuple[str, int], str]:
    """What each training row (table, place) near-duplicates: a row of its kind, or a held-out document."""
    found = {}
    for kind in (TRAINING[:2], TRAINING[2:]):
        places = [("heldout_text", place) for place in range(len(rows["heldout_text"]))]
        heldout = range(len(places))
        places += [(table, place) for table in kind for place in range(len(rows[table]))]
        shingles = shingle(split_words([rows[table][place].text for table, place in places]))
        others = range(len(heldout), len(places))
        matches = [*near_duplicates(shingles, others, min_jaccard), *overlaps(shingles, heldout, others, min_jaccard)]
        for match in filter(None, matches):
            table, place = places[match.kept]
            found[places[match.document]] = f"{rows[table][place].record['id']} ({match.jaccard:.3f})"
    return found


def _categories(items: Records) -> pd.DataFrame:
    """One row for each category of domain and of general items, with their number and that of their clusters.

    `general_items` is empty for a domain category. An item without a cluster is one by itself.
    """
    clusters: dict[tuple[str, str], Counter[str]] = {}
    for item in items:
        if item["group"] in ("domain", "general"):
            category = clusters.setdefault((item["group"], item["category"]), Counter())
            category[item["cluster"] or f"\0{item['id']}"] += 1
    rows = []
    for (group, name), sizes in sorted(clusters.items()):
        row = {"id": name, "source": "items", "location": group, "items": sizes.total(), "clusters": len(sizes)}
        rows.append(row | {"general_items": sizes.total() if group == "general" else None})
    return pd.DataFrame(rows, columns=[*PLACE, "items", "clusters", "general_items"])


def _totals(tables: Mapping[str, Records], frames: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    groups = Counter(item["group"] for item in tables["items"])
    heldout = Counter(document["group"] for document in tables["heldout_text"])
    tokens, supervised = frames["instructions"]["tokens"].sum(), frames["instructions"]["supervised_tokens"].sum()
    totals = {
        **{f"{table}_rows": len(tables[table]) for table in TRAINING},
        **{f"{group}_items": groups[group] for group in ("domain", "general", "behaviour")},
        **{f"heldout_{group}_documents": heldout[group] for group in ("domain", "general")},
        "general_categories": len({item["category"] for item in tables["items"] if item["group"] == "general"}),
        "corpus_tokens": int(frames["corpus"]["tokens"].sum()),
        "instruction_tokens": int(tokens),
        "supervised_fraction": float(supervised / tokens) if tokens else 0.0,
    }
    return pd.DataFrame([{"id": "totals", "source": "data/curated", "location": "", **totals}])


def require_tokenizer(tokenizer: Any, folder: Path) -> Any:
    """The tokenizer, when it can encode conversations; raises UserError naming what it lacks."""
    if not tokenizer.chat_template or not tokenizer.eos_token:
        missing = "end-of-text token" if tokenizer.chat_template else "chat template"
        raise UserError(f"{folder}: the tokenizer has no {missing}; fetch.model.chat_template in params.yaml sets one")
    return tokenizer
