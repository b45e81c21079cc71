"""Our near-duplicate detection as a program like the peers': CORPUS OUTPUT.

Unlike the peers it checks every candidate.
"""

import json
import sys
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

from lmadapt.curation.near_duplicates import WordStore, band_keys, near_duplicates
from lmadapt.curation.word_hashes import split_words


def deduplicate(corpus: str, min_jaccard: float) -> list[tuple[str, str]]:
    """Ids of the dropped and of the kept document; the longest is kept."""
    store, keys, ids, lengths = WordStore(), [], [], []
    file = pq.ParquetFile(corpus)
    for group in range(file.num_row_groups):
        table = file.read_row_group(group, columns=["id", "text"])
        words = split_words(table["text"].combine_chunks())
        store.append(words)
        keys.append(band_keys(words))
        ids += table["id"].to_pylist()
        lengths.append(words.counts)
    order = np.argsort(-np.concatenate(lengths), kind="stable")
    matches = near_duplicates(np.concatenate(keys)[order], order, store, min_jaccard)
    return [(ids[order[match.document]], ids[order[match.kept]]) for match in matches]


if __name__ == "__main__":
    Path(sys.argv[2]).write_text(json.dumps(deduplicate(sys.argv[1], 0.8)))
