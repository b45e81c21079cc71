"""The peers' near-duplicate detection, each as a program of its own: CONTESTANT CORPUS OUTPUT.

5-word shingles, 112 permutations in 14 bands of 8, on one core. Each writes how many documents it
would drop; none checks its candidates. The program runs in the peers' own environment
(curate-peers.txt) and imports nothing of ours.
"""

import json
import re
import sys
from pathlib import Path

import pyarrow.parquet as pq

WORD = re.compile(r"\w+")
GROUP = 1000  # documents read at once


def texts(corpus):
    """The texts of the documents, a group at a time."""
    for batch in pq.ParquetFile(corpus).iter_batches(batch_size=GROUP, columns=["text"]):
        yield batch.column(0).to_pylist()


def shingles(text):
    """The 5-word runs of a text."""
    words = WORD.findall(text.lower())
    return [" ".join(words[place : place + 5]) for place in range(max(1, len(words) - 4))]


def rensa(corpus):
    """R-MinHash through its batch interface, then its LSH."""
    from rensa import RMinHash, RMinHashLSH

    index = RMinHashLSH(threshold=0.8, num_perm=112, num_bands=14)
    dropped = start = 0
    for group in texts(corpus):
        matrix = RMinHash.digest_matrix_from_token_sets([shingles(text) for text in group], 112, 1)
        dropped += sum(index.insert_matrix_and_query_duplicate_flags(matrix, start))
        start += len(group)
    return dropped


def datasketch(corpus):
    """MinHash and MinHashLSH."""
    from datasketch import MinHash, MinHashLSH

    index, dropped, number = MinHashLSH(num_perm=112, params=(14, 8)), 0, 0
    for group in texts(corpus):
        for text in group:
            sketch = MinHash(num_perm=112)
            sketch.update_batch([shingle.encode() for shingle in set(shingles(text))])
            dropped += bool(index.query(sketch))
            index.insert(number, sketch)
            number += 1
    return dropped


def daft(corpus):
    """Its normalisation and minhash expressions.

    Bands are joined and clusters found as its tutorial does, in numpy.
    """
    import daft as engine
    import numpy as np
    from daft.functions import minhash, normalize
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import connected_components

    engine.set_runner_native()
    clean = normalize(engine.col("text"), remove_punct=True, lowercase=True, white_space=True)
    sketch = minhash(clean, num_hashes=112, ngram_size=5, seed=1)
    column = (
        engine.read_parquet(corpus)
        .select(sketch.alias("sketch"))
        .to_arrow()["sketch"]
        .combine_chunks()
    )
    minima = np.asarray(column.flatten()).reshape(-1, 14, 8)
    pairs = []
    for band in range(14):
        key = np.ascontiguousarray(minima[:, band]).view("V32").ravel()
        _, label = np.unique(key, return_inverse=True)
        order = np.argsort(label, kind="stable")
        same = label[order][1:] == label[order][:-1]
        pairs.append(np.stack([order[1:][same], order[:-1][same]]))
    first, second = np.concatenate(pairs, axis=1)
    graph = coo_matrix(
        (np.ones(len(first), np.int8), (first, second)), shape=(len(minima), len(minima))
    )
    return int(len(minima) - connected_components(graph, directed=False)[0])


def datatrove(corpus):
    """The four steps of its MinHash pipeline, one task each."""
    from datatrove.executor import LocalPipelineExecutor
    from datatrove.pipeline.dedup import (
        MinhashDedupBuckets,
        MinhashDedupCluster,
        MinhashDedupFilter,
        MinhashDedupSignature,
    )
    from datatrove.pipeline.dedup.minhash import MinhashConfig
    from datatrove.pipeline.readers import ParquetReader
    from datatrove.pipeline.writers import JsonlWriter

    folder = Path(corpus).with_suffix(".datatrove")
    config = MinhashConfig(n_grams=5, num_buckets=14, hashes_per_bucket=8)
    reader = ParquetReader(str(Path(corpus).parent), glob_pattern=Path(corpus).name)
    steps = [
        ([reader, MinhashDedupSignature(f"{folder}/sig", config=config)], 1),
        ([MinhashDedupBuckets(f"{folder}/sig", f"{folder}/buckets", config=config)], 14),
        ([MinhashDedupCluster(f"{folder}/buckets", f"{folder}/remove", config=config)], 1),
        ([reader, MinhashDedupFilter(f"{folder}/remove", JsonlWriter(f"{folder}/gone"))], 1),
    ]
    for number, (pipeline, tasks) in enumerate(steps):
        LocalPipelineExecutor(
            pipeline, tasks=tasks, workers=1, logging_dir=f"{folder}/logs/{number}"
        ).run()
    dropped = json.loads((folder / "logs/3/stats.json").read_text())[1]["stats"]["dropped"]
    return dropped["total"] if isinstance(dropped, dict) else dropped


CONTESTANTS = {"rensa": rensa, "datasketch": datasketch, "daft": daft, "datatrove": datatrove}

if __name__ == "__main__":
    contestant, source, output = sys.argv[1:]
    Path(output).write_text(json.dumps(CONTESTANTS[contestant](source)))
