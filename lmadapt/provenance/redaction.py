"""Replaces secrets in texts by `***`, before anything is stored or printed."""

import re
from typing import Any

USER_INFO = re.compile(r"://[^/\s]*@")
# Ends of names whose value is a secret: of libpq, HTTP, and the signed addresses of S3, Azure and
# Google. The name may have a beginning, as in `sslpassword` and `X-Amz-Signature`.
SECRET_NAMES = (
    r"password|passwd|pwd|passphrase|token|secret|sig|signature|credential|"
    r"(?:api|access|account|private|shared|secret)[-_]?(?:access[-_]?)?key(?:[-_]?id)?"
)
SECRET_VALUE = re.compile(
    rf"((?<![A-Za-z0-9])[\w-]*?(?:{SECRET_NAMES})(?:=|%3D))[^&;\s'\"]+", re.IGNORECASE
)
AUTHORISATION = re.compile(
    r"((?:authorization|x-api-key)['\"]?\s*[:=]\s*['\"]?(?:(?:bearer|basic|token)\s+)?)[^\s'\",]+",
    re.IGNORECASE,
)
# Tokens that their form gives away: Hugging Face, GitHub, GitLab, AWS, Slack, OpenAI, and JWTs.
KNOWN_TOKENS = re.compile(
    r"(?<!\w)(?:hf_[A-Za-z0-9]{16,}|gh[opsur]_\w{20,}|github_pat_\w{20,}|glpat-[\w-]{16,}|"
    r"(?:AKIA|ASIA)[A-Z0-9]{16}|xox[abprs]-[\w-]{10,}|sk-[\w-]{20,}|"
    r"eyJ[\w-]{8,}\.[\w-]{8,}\.[\w-]+)"
)
SECRET_KEY = re.compile(rf"[\w-]*?(?:{SECRET_NAMES})", re.IGNORECASE)
SPECIAL_TOKENS = re.compile(r"<[^<>]*>|\[[A-Z]+\]")  # `eos_token: </s>` is no secret


def redact_secrets(node: Any) -> Any:
    """A copy of the document in which every text has lost its secrets, at any depth.

    Secrets are what stands before `@` in an address (`user:password@`), the values of parameters
    such as `password=`, `sig=` and `X-Amz-Signature=`, what an `Authorization` header holds, texts
    under a key such as `api_key`, and tokens whose form is known.
    """
    if isinstance(node, dict):
        return {key: _value(key, value) for key, value in node.items()}
    if isinstance(node, list):
        return [redact_secrets(value) for value in node]
    if isinstance(node, str):
        return _text(node)
    return node


def _value(key: Any, value: Any) -> Any:
    """The redacted value of a key; a text under a secret's name is one whatever it looks like."""
    secret = isinstance(value, str) and SECRET_KEY.fullmatch(str(key))
    if secret and value and not SPECIAL_TOKENS.fullmatch(value):
        return "***"
    return redact_secrets(value)


def _text(text: str) -> str:
    text = USER_INFO.sub("://***@", text)
    text = AUTHORISATION.sub(r"\1***", text)
    text = SECRET_VALUE.sub(r"\1***", text)
    return KNOWN_TOKENS.sub("***", text)
