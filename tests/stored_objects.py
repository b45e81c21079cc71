"""Objects in a DVC store, as DVC writes them."""

import hashlib
import json
from pathlib import Path


def stored(store: Path, md5: str) -> Path:
    """Where a store keeps the object with this MD5."""
    return store / "files/md5" / md5[:2] / md5[2:]


def store_object(store: Path, content: bytes, suffix: str = "") -> str:
    """Put an object into a store; its MD5, with the suffix."""
    md5 = hashlib.md5(content).hexdigest() + suffix
    stored(store, md5).parent.mkdir(parents=True, exist_ok=True)
    stored(store, md5).write_bytes(content)
    return md5


def store_folder(store: Path, contents: dict[str, str]) -> str:
    """Put a folder with these files (content by path) into a store; its MD5, with .dir."""
    entries = [
        {"md5": store_object(store, text.encode()), "relpath": path}
        for path, text in contents.items()
    ]
    return store_object(store, json.dumps(entries).encode(), ".dir")
