"""The sequence of curation: screen, decontaminate, deduplicate, split; a decision for every row.

Texts stay in files. Groups of rows are screened one after the other and written to scratch files;
memory holds a decision, the band keys and the word offsets of each row. After the last rule the
scratch files are read again, and the rows that are left go to the curated tables.
"""

import tempfile
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from lmadapt.core.tables import (
    BAD_RECORD,
    CURATED_TABLES,
    RAW_TABLES,
    count_groups,
    read_table,
    write_table,
)
from lmadapt.curation.boilerplate import find_boilerplate
from lmadapt.curation.category_cap import cap_categories
from lmadapt.curation.decisions import (
    DOCUMENT_ROLES,
    INSTRUCTION_ROLES,
    TABLE_OF,
    TRAINING_ROLES,
    RowDecision,
    decision_records,
    remaining,
    require_any_left,
    require_sound,
    unreadable_rows,
)
from lmadapt.curation.decontamination import Item, LeakFinder
from lmadapt.curation.duplicates import drop_duplicates
from lmadapt.curation.evaluation_entities import drop_evaluation_entities
from lmadapt.curation.evaluation_items import screen_items
from lmadapt.curation.funnel import FunnelPoint, count_rows
from lmadapt.curation.leaks import drop_leaks
from lmadapt.curation.metrics import curation_metrics
from lmadapt.curation.parallel import Workers, map_threads, start_processes
from lmadapt.curation.paraphrases import add_paraphrases
from lmadapt.curation.scratch import read_screened, screen_role, write_training_tables
from lmadapt.curation.screening import ScreeningRules, TrainingRows
from lmadapt.curation.settings import CurationSettings
from lmadapt.curation.splitting import entities_to_avoid, hold_out


def curate_tables(
    raw: Path, curated: Path, settings: CurationSettings
) -> tuple[list[FunnelPoint], dict[str, Any]]:
    """Curate the raw tables of folder `raw` into tables in `curated`; return funnel and metrics.

    Raises UserError when a table is missing, the corpus is empty, two rows have one id, more than
    the share `max_bad_records` of a role's records cannot be read, or no row of a role is left.
    """
    workers = Workers(settings.engine, settings.processes, settings.ray_address)
    corpus_groups = count_groups(raw / "corpus.parquet", RAW_TABLES["corpus"])
    threads = start_processes(corpus_groups, workers)
    items = read_table(raw / "evaluation.parquet", RAW_TABLES["evaluation"]).to_pylist()
    item_rows = screen_items(items)
    with tempfile.TemporaryDirectory(dir=curated, prefix=".scratch.") as folder:
        scratch = Path(folder)
        asked = _kept_items(items, item_rows)
        training = _screen_training(raw, scratch, asked, settings, workers, threads)
        rows = [*training.rows, *item_rows]
        bad_records = read_table(raw / "bad_records.parquet", BAD_RECORD).to_pylist()
        all_rows = [*rows, *unreadable_rows(bad_records)]
        require_sound(all_rows, settings.max_bad_records)
        funnel = count_rows(all_rows, "raw") + count_rows(rows, "readable")
        funnel += _finish("quality", rows)
        if settings.paraphrase_model:
            _mark_paraphrases(training, scratch, asked, settings)

        leaks = drop_leaks(rows, settings.on_leak)
        funnel += _finish("leaks", rows)
        drop_evaluation_entities(rows)
        funnel += _finish("evaluation_entities", rows)
        jaccard = settings.near_duplicate_jaccard
        drop_duplicates(training, DOCUMENT_ROLES, jaccard)
        funnel += _finish("document_duplicates", rows)
        avoided = entities_to_avoid(rows)
        fraction, seed = settings.heldout_fraction, settings.seed
        hold_out(training, avoided, fraction=fraction, min_jaccard=jaccard, seed=seed)
        funnel += _finish("heldout", rows)
        drop_duplicates(training, INSTRUCTION_ROLES, jaccard)
        funnel += _finish("instruction_duplicates", rows)
        if settings.max_instructions_per_category:
            cap_categories(rows, settings.max_instructions_per_category, seed)
        funnel += _finish("category_cap", rows)

        for row in remaining(rows):
            row.split = row.split or TABLE_OF[row.role]
        tasks: list[Callable[[], Any]] = [
            partial(write_training_tables, training.rows, scratch, curated, threads),
            partial(_write_items, _kept_items(items, item_rows), curated),
            partial(_write_decisions, all_rows, curated),
            partial(curation_metrics, all_rows, leaks, avoided, training.store),
        ]
        *_, metrics = map_threads(_call, tasks, threads)
    return funnel, metrics


def _kept_items(items: Sequence[Item], rows: Sequence[RowDecision]) -> list[Item]:
    return [item for item, row in zip(items, rows, strict=True) if row.outcome != "dropped"]


def _screen_training(
    raw: Path,
    scratch: Path,
    items: Sequence[Item],
    settings: CurationSettings,
    workers: Workers,
    threads: int,
) -> TrainingRows:
    """Screen the four training roles, each row by itself; write the cleaned rows to `scratch`."""
    training = TrainingRows()
    ngram_words = settings.decontaminate_ngram_words
    corpus_finder = LeakFinder(items, ngram_words=ngram_words, in_corpus=True)
    finder = LeakFinder(items, ngram_words=ngram_words, in_corpus=False)
    for role in TRAINING_ROLES:
        file, boilerplate = raw / f"{role}.parquet", {}
        if role in DOCUMENT_ROLES and settings.boilerplate_fraction:
            boilerplate = find_boilerplate(file, role, settings.boilerplate_fraction, threads)
        rules = ScreeningRules(
            role=role,
            filters=settings.filters,
            languages=settings.languages,
            min_language_confidence=settings.min_language_confidence,
            personal_data=settings.personal_data,
            boilerplate=boilerplate,
            leaks=corpus_finder if role == "corpus" else finder,
        )
        screen_role(file, scratch, rules, training, workers)
    return training


def _finish(step: str, rows: Sequence[RowDecision]) -> list[FunnelPoint]:
    """The points of the funnel after a step; raises UserError when no row of a role is left."""
    require_any_left(rows)
    return count_rows(remaining(rows), step)


def _mark_paraphrases(
    training: TrainingRows, scratch: Path, items: Sequence[Item], settings: CurationSettings
) -> None:
    for role in INSTRUCTION_ROLES:
        add_paraphrases(
            [row for row in training.rows if row.role == role],
            read_screened(scratch, role),
            items,
            model=settings.paraphrase_model or "",
            min_similarity=settings.paraphrase_similarity,
        )


def _write_items(items: Sequence[Item], curated: Path) -> None:
    write_table(items, CURATED_TABLES["items"], curated / "items.parquet")


def _write_decisions(rows: Sequence[RowDecision], curated: Path) -> None:
    records = decision_records(rows)
    write_table(records, CURATED_TABLES["decisions"], curated / "decisions.parquet")


def _call(task: Callable[[], Any]) -> Any:
    return task()
