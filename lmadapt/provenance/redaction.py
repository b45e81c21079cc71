"""Replaces the secrets in addresses by `***`, before anything is stored or printed."""

import re
from typing import Any

USER_INFO = re.compile(r"://[^/\s]*@")
SECRET_VALUE = re.compile(r"((?:password|passwd|pwd|token|secret)=)[^&\s'\"]+", re.IGNORECASE)


def redact_secrets(node: Any) -> Any:
    """A copy of the document in which every text has lost its secrets, at any depth.

    Secrets are what stands before `@` in an address (`user:password@`) and the values of
    parameters such as `password=` and `token=`.
    """
    if isinstance(node, dict):
        return {key: redact_secrets(value) for key, value in node.items()}
    if isinstance(node, list):
        return [redact_secrets(value) for value in node]
    if isinstance(node, str):
        return SECRET_VALUE.sub(r"\1***", USER_INFO.sub("://***@", node))
    return node
