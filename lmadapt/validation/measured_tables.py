"""The curated tables as pandas frames with what can be measured about each row: tokens, leaks, duplicates, problems.

Every problem column is "" where there is none, and says what is wrong where there is one. The tables are read by
groups of rows; the frames hold no text.
"""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from lmadapt.core.errors import UserError
from lmadapt.core.tables import CURATED_TABLES, read_groups, read_table
from lmadapt.curation.decisions import TABLE_OF, Row
from lmadapt.curation.decontamination import LeakFinder
from lmadapt.curation.languages import find_languages, language_problem
from lmadapt.curation.near_duplicates import near_duplicates
from lmadapt.curation.quality import conversation_problem, item_problem
from lmadapt.curation.screening import Rules, Training, parts_of, screen
from lmadapt.curation.word_hashes import fold
from lmadapt.models.chat import encode_conversation

Record = dict[str, Any]
Frames = dict[str, pd.DataFrame]
ROLE_OF = {table: role for role, table in TABLE_OF.items() if role != "evaluation"}
TRAINING = tuple(ROLE_OF)
PLACE = ["id", "source", "location"]


def derive(
    curated: Path,
    tokenizer: Any,
    *,
    near_duplicate_jaccard: float,
    decontaminate_ngram_words: int,
    languages: Sequence[str],
    min_language_confidence: float,
    personal_data: Sequence[str],
) -> Frames:
    """A frame for each curated table but `decisions`, and frames `tables` (columns and types), `categories` (of
    items), `totals` (one row) and `sizes` (rows, tokens a row and different words of each training table).

    A table of other columns counts as empty. Raises UserError when a file is missing or no Parquet.
    """
    schemas, files = _check_schemas(curated)
    items = (
        read_table(files["items"], CURATED_TABLES["items"]).to_pylist() if "items" in files else []
    )
    sound = [item for item in items if not item_problem(item)]
    frames: Frames = {"items": pd.DataFrame(_items(items, tokenizer))}
    compared: dict[str, list[Row]] = {}
    training, sizes = Training(), []
    for table in ("heldout_text", *TRAINING):
        finder = LeakFinder(
            sound, ngram_words=decontaminate_ngram_words, in_corpus=table == "corpus"
        )
        rules = Rules(ROLE_OF.get(table, "corpus"), {}, [], 0.0, personal_data, {}, finder)
        columns: dict[str, list[Any]] = defaultdict(list)
        before, vocabulary = len(training.rows), np.empty(0, np.uint32)
        for group in read_groups(files[table], CURATED_TABLES[table]) if table in files else ():
            screened = screen(group, rules)
            training.add(screened)
            vocabulary = np.union1d(vocabulary, screened.words.hashes)
            described = _describe(group.to_pylist(), screened.rows, tokenizer)
            allowed = languages if table == "corpus" else []
            found = (
                find_languages(group["text"].to_pylist()) if allowed else [("", 1.0)] * len(group)
            )
            problems = [
                language_problem(one, allowed or [""], min_language_confidence) for one in found
            ]
            described["language_problem"] = [problem[1] if problem else "" for problem in problems]
            for name, values in described.items():
                columns[name] += values
        compared[table] = training.rows[before:]
        frames[table] = pd.DataFrame(
            columns or _describe([], [], tokenizer) | {"language_problem": []}
        )
        rows = len(frames[table])
        sizes.append({"id": table, "source": f"{table}.parquet", "location": "", "rows": rows})
        sizes[-1]["tokens_per_row"] = float(frames[table]["tokens"].sum() / max(1, rows))
        sizes[-1]["vocabulary"] = len(vocabulary)
    _mark_duplicates(frames, compared, training, near_duplicate_jaccard)
    uses = Counter(name for table in (*compared, "items") for name in frames[table]["id"])
    for table in (*compared, "items"):
        frames[table]["id_uses"] = [uses[name] for name in frames[table]["id"]]
    counted = {
        "categories": _categories(items),
        "totals": _totals(items, frames),
        "sizes": pd.DataFrame(sizes),
    }
    return frames | {"tables": schemas} | counted


def _check_schemas(curated: Path) -> tuple[pd.DataFrame, dict[str, Path]]:
    """One row a table, whose `schema_problem` is "" when it fits, and the files of those that do."""
    rows, files = [], {}
    for name, schema in CURATED_TABLES.items():
        file = curated / f"{name}.parquet"
        try:
            found = pq.read_schema(file).remove_metadata()
        except (pa.ArrowInvalid, OSError) as error:
            told = (
                "no such file"
                if isinstance(error, FileNotFoundError)
                else f"not a readable Parquet file: {error}"
            )
            raise UserError(f"{file}: {told}") from None
        problem = (
            ""
            if found.equals(schema)
            else f"expected {schema.to_string()}; found {found.to_string()}"
        )
        rows.append(
            {
                "id": name,
                "source": file.name,
                "location": "",
                "schema_problem": problem.replace("\n", ", "),
            }
        )
        if not problem:
            files[name] = file
    return pd.DataFrame(rows), files


def _describe(
    records: Sequence[Record], rows: Sequence[Row], tokenizer: Any
) -> dict[str, list[Any]]:
    """Columns of a group of training or held-out rows."""
    columns: dict[str, list[Any]] = {name: [record[name] for record in records] for name in PLACE}
    leaks = [next(iter(row.leaks), None) for row in rows]
    columns["leak"] = [f"item {leak.item}: {leak.words}" if leak else "" for leak in leaks]
    columns["personal_data"] = [
        row.evidence if "personal data" in row.evidence else "" for row in rows
    ]
    columns["category"] = [record.get("category") for record in records]
    columns["group"] = [record.get("group") for record in records]
    columns["characters"] = [len("".join(parts_of(record)).strip()) for record in records]
    problems = [
        (conversation_problem(r["messages"] or ()) if "messages" in r else None) or ("", "")
        for r in records
    ]
    columns["role_order_problem"] = [
        text if rule == "role_order" else "" for rule, text in problems
    ]
    columns["empty_message_problem"] = [
        text if rule.startswith("empty") else "" for rule, text in problems
    ]
    encoded = [
        (0, 0, "") if rule else _encode(r, tokenizer)
        for r, (rule, _) in zip(records, problems, strict=True)
    ]
    for place, name in enumerate(("tokens", "supervised_tokens", "encoding_problem")):
        columns[name] = [one[place] for one in encoded]
    return columns


def _encode(record: Record, tokenizer: Any) -> tuple[int, int, str]:
    """Tokens, supervised tokens, and why a conversation cannot be encoded."""
    if "text" in record:
        tokens = len(tokenizer(record["text"] or "", add_special_tokens=False)["input_ids"])
        return tokens, tokens, ""
    try:
        encoded = encode_conversation(tokenizer, record["messages"])
    except (
        Exception
    ) as error:  # a chat template is a program of the model's author and may raise anything
        return 0, 0, f"{type(error).__name__}: {error}"
    return len(encoded.input_ids), encoded.loss_tokens, ""


def _items(items: Sequence[Record], tokenizer: Any) -> dict[str, list[Any]]:
    longest = [max(item["choices"] or [""], key=len) or "" for item in items]
    return {
        **{name: [item[name] for item in items] for name in PLACE},
        "item_problem": [item_problem(item) for item in items],
        "question": [
            "\n".join([i["group"] or "", *map(fold, [i["prompt"] or "", *i["choices"]])])
            for i in items
        ],
        "tokens": [
            _encode({"text": f"{i['prompt']} {text}"}, tokenizer)[0]
            for i, text in zip(items, longest, strict=True)
        ],
    }


def _mark_duplicates(
    frames: Frames, rows: Mapping[str, list[Row]], training: Training, min_jaccard: float
) -> None:
    """Columns `near_duplicate_of` (a row of its kind) and `heldout_overlap` (held-out text like the row or a part)."""
    heldout = [(row, row.texts[0]) for row in rows["heldout_text"]]
    for kind in (TRAINING[:2], TRAINING[2:]):
        mine = [row for table in kind for row in rows[table]]
        whole = [(row, row.texts[0]) for row in mine]
        parts = [*heldout, *((row, text) for row in mine for text in row.texts)]
        for column, texts, keepers in (
            ("near_duplicate_of", whole, None),
            ("heldout_overlap", parts, len(heldout)),
        ):
            places = np.array([text for _, text in texts], np.int64)
            keys = training.keys_of(places)
            found = near_duplicates(keys, places, training.store, min_jaccard, keepers=keepers)
            twins = {
                texts[m.document][0].id: f"{texts[m.kept][0].id} ({m.jaccard:.3f})" for m in found
            }
            for table in kind:
                frames[table][column] = [twins.get(row.id, "") for row in rows[table]]


def _categories(items: Sequence[Record]) -> pd.DataFrame:
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
        row = {
            "id": name,
            "source": "items",
            "location": group,
            "items": sizes.total(),
            "clusters": len(sizes),
        }
        rows.append(row | {"general_items": sizes.total() if group == "general" else None})
    return pd.DataFrame(rows, columns=[*PLACE, "items", "clusters", "general_items"])


def _totals(items: Sequence[Record], frames: Frames) -> pd.DataFrame:
    groups = Counter(item["group"] for item in items)
    tokens = {table: int(frames[table]["tokens"].sum()) for table in TRAINING}
    supervised = {table: int(frames[table]["supervised_tokens"].sum()) for table in TRAINING}

    def share(part: int, rest: int) -> float:
        return part / (part + rest) if part else 0.0

    totals = {
        **{f"{table}_rows": len(frames[table]) for table in TRAINING},
        **{f"{group}_items": groups[group] for group in ("domain", "general", "behaviour")},
        **{
            f"heldout_{g}_documents": int((frames["heldout_text"]["group"] == g).sum())
            for g in ("domain", "general")
        },
        "general_categories": len(
            {item["category"] for item in items if item["group"] == "general"}
        ),
        "corpus_tokens": tokens["corpus"],
        "instruction_tokens": tokens["instructions"],
        "supervised_fraction": share(
            supervised["instructions"], tokens["instructions"] - supervised["instructions"]
        ),
        "replay_text_fraction": share(tokens["replay_text"], tokens["corpus"]),
        "replay_instructions_fraction": share(
            supervised["replay_instructions"], supervised["instructions"]
        ),
    }
    return pd.DataFrame([{"id": "totals", "source": "data/curated", "location": "", **totals}])


def require_tokenizer(tokenizer: Any, folder: Path) -> Any:
    """The tokenizer, when it can encode conversations; raises UserError naming what it lacks."""
    if not tokenizer.chat_template or not tokenizer.eos_token:
        missing = "end-of-text token" if tokenizer.chat_template else "chat template"
        raise UserError(
            f"{folder}: the tokenizer has no {missing}; fetch.model.chat_template in params.yaml sets one"
        )
    return tokenizer
