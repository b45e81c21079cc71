"""What every kernel hashes with."""

# mypy: disable-error-code="no-untyped-def"

import numba
import numpy as np

GOLDEN = np.uint64(0x9E3779B97F4A7C15)  # 2**64 / golden ratio, odd: multiplicative hashing (Knuth)
PRIME, BASIS = 0x100000001B3, 0xCBF29CE484222325  # FNV-1a, 64 bits (Fowler, Noll, Vo 1991)


@numba.njit(inline="always")
def mix(value):
    """Spread 64-bit integers evenly over all 64 bits; takes a number or an array.

    This is the finaliser of MurmurHash3.
    """
    value = (value ^ (value >> np.uint64(33))) * np.uint64(0xFF51AFD7ED558CCD)
    value = (value ^ (value >> np.uint64(33))) * np.uint64(0xC4CEB9FE1A85EC53)
    return value ^ (value >> np.uint64(33))


@numba.njit(inline="always")
def table_size(count):
    """Size of a hash table for `count` keys: a power of two, at least twice the count."""
    size = 4
    while size < 2 * count:
        size *= 2
    return size


@numba.njit(inline="always")
def find_slot(keys, marks, lowest, key, slot):
    """The slot of `key` in a hash table, or the free slot where it belongs, by linear probing.

    `keys` has a power of two of slots, and the search starts at `slot`. A slot is taken when its
    mark is at least `lowest`, of the type of the marks.
    """
    last = np.uint64(len(keys) - 1)
    while marks[slot] >= lowest and keys[slot] != key:
        slot = (slot + np.uint64(1)) & last
    return slot
