"""What all processes that screen share: importing this module screens one document.

That loads the compiled code and the language model once, before processes are forked.
"""

import pyarrow as pa

from lmadapt.core.tables import DOCUMENT
from lmadapt.curation.decontamination import LeakFinder
from lmadapt.curation.personal_data import KINDS
from lmadapt.curation.quality import FILTERS
from lmadapt.curation.screening import ScreeningRules, screen

_document = dict.fromkeys(DOCUMENT.names, "One line \u00e9.\nAnother, by jane@example.org.")
_rules = ScreeningRules(
    role="corpus",
    filters=FILTERS,
    languages=["en"],
    min_language_confidence=0.0,
    personal_data=list(KINDS),
    boilerplate={},
    leaks=LeakFinder([], ngram_words=13, in_corpus=True),
)
screen(pa.Table.from_pylist([_document], schema=DOCUMENT), _rules)
