"""The settings of curation; the sources of the thresholds stand beside the rules that use them."""

from typing import Annotated, Literal

from pydantic import Field

from lmadapt.core.sections import Section
from lmadapt.curation.personal_data import KINDS
from lmadapt.curation.quality import FILTERS

Share = Annotated[float, Field(ge=0, le=1)]


class CurationSettings(Section):
    """What curation drops, masks and holds out, and where it runs."""

    seed: int
    engine: Literal["local", "ray"]
    processes: int | None = Field(ge=1)  # of engine local; None: one a core
    ray_address: str | None  # of engine ray; None: a cluster on this machine
    max_bad_records: float = Field(ge=0, lt=1)  # share of a role's records
    filters: dict[Literal[tuple(FILTERS)], float]  # type: ignore[valid-type]
    languages: list[str]  # ISO 639 codes of the allowed languages; empty: all
    min_language_confidence: Share
    personal_data: list[Literal[tuple(KINDS)]]  # type: ignore[valid-type]
    boilerplate_fraction: float | None = Field(gt=0, le=1)  # share of a source's documents
    # Below 0.7 the bands of near_duplicates.py miss too many pairs.
    near_duplicate_jaccard: float = Field(ge=0.7, le=1)
    decontaminate_ngram_words: int = Field(ge=3)
    on_leak: Literal["drop_document", "drop_item"]
    paraphrase_model: str | None
    paraphrase_similarity: float = Field(gt=0, le=1)  # cosine
    heldout_fraction: float = Field(ge=0, lt=1)  # share of the entities
    max_instructions_per_category: int | None = Field(ge=1)
