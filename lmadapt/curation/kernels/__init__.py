"""Compiled functions of curation: plain loops over arrays, which numba turns into machine code.

numba keeps what it compiled, and compiles a function again when the function's own file changes.
After a change of hashing.py or characters.py, which the other files share, remove `__pycache__`.

- cache: a private place for compiled code, where numba finds none
- hashing: mixes the bits of a hash; the size of a hash table
- characters: decodes UTF-8; what kind of character a code point is
- word_hashes: hashes of words, digests of texts, runs of characters that Python must fold
- near_duplicates: MinHash keys, pairs that share one, exact Jaccard similarities
- text_statistics: counts of characters, lines, stop words and repeated runs of words
- boilerplate: hashes of lines, and how many texts have each
- decontamination: rolling hashes of runs of words, and looking them up
"""

from lmadapt.curation.kernels.cache import ensure_cache

ensure_cache()
