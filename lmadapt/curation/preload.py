"""What all processes that screen share: to import this screens a document, which loads compiled code and models."""

import pyarrow as pa

from lmadapt.core.tables import DOCUMENT
from lmadapt.curation.decontamination import LeakFinder
from lmadapt.curation.personal_data import KINDS
from lmadapt.curation.quality import FILTERS
from lmadapt.curation.screening import Rules, screen

_document = dict.fromkeys(DOCUMENT.names, "One line \u00e9.\nAnother, by jane@example.org.")
_rules = Rules(
    "corpus", FILTERS, ["en"], 0.0, list(KINDS), {}, LeakFinder([], ngram_words=13, in_corpus=True)
)
screen(pa.Table.from_pylist([_document], schema=DOCUMENT), _rules)
