"""Rule `personal_data`: personal data and secrets are replaced by placeholders such as <EMAIL>.

A fast search (Arrow's RE2) picks the texts, and in them the lines, that may hold a kind; Python's
expressions run in those only. A match with a checksum is then checked: cards by Luhn (ISO/IEC
7812-1) and account numbers by country, structure and modulo 97 (ISO 13616), both by python-stdnum;
addresses by the ipaddress module. Forms of API keys are those that GitHub's secret scanning and
detect-secrets list; other values count where they are assigned to a name such as `api_key`.
"""

import ipaddress
import math
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import groupby

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from lmadapt.curation.word_hashes import text_buffers, text_column

CONTEXT = 24  # characters before a match that may tell what it is
CUE = re.compile(
    r"(?i)\b(phone|tel|telephone|mobile|cell|fax|call|contact|dial|ring|sms|text|whatsapp"
    r"|number is|reach)\b[^\d\n]*$"
)
# Digits in one piece could count anything: the cue must ask for a number, not only stand nearby.
NEAR_CUE = re.compile(
    r"(?i)(\b(phone|tel|telephone|mobile|fax|call|dial|sms|whatsapp|number is)\b"
    r"|\b(cell|contact|ring|text|reach)\b\W*\b(me|us|him|her|them|at|on|phone|no|nr|number)\b)"
    r"(\W|\b(me|us|him|her|them|at|on|is|no|nr|number|phone|or|the|my|our|your|under|via)\b)*$"
)
LONG_NUMBER = 9  # digits: a count that long is rare, unless it is round
NO_PHONE = re.compile(
    r"(?i)\b(isbn|issn|ean|upc|gtin|asin|doi|pmid|pmcid|icd|cas|oclc|lccn|orcid|patent)\b"
    r"([- ]?1[03])?[^\w\n]*$"
)
NO_ADDRESS = re.compile(
    r"(?i)(\b(v|ver|version|release|build|rev|revision|firmware|section|sections|clause|chapter"
    r"|figure|fig|table|annex|appendix|oid|netmask|mask|wildcard)[ .:=]*|\u00a7 ?"
    r"|[=~<>]=\s*[\"']?)$"
)
ADDRESS_CUE = re.compile(r"(?i)\b(ip|ipv4|address|host|server|from|peer|client|ping|ssh|dns)\b\W*$")
# Four numbers this small are a section or a version; of 5,000 addresses, one looks so.
SMALL_PART = 30
# Networks whose addresses name a machine within its own network only (RFC 1918, 3927, 4193, 6598).
LOCAL_NETWORKS = [
    ipaddress.ip_network(network)
    for network in (
        *("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "169.254.0.0/16", "100.64.0.0/10"),
        *("fe80::/10", "fc00::/7"),
    )
]
# Of what looks like an email address and is a file, as in icon@2x.png; none is a top-level domain.
FILE_ENDINGS = (
    *("png", "jpg", "jpeg", "gif", "svg", "webp", "bmp", "ico", "tif", "tiff", "js", "jsx", "ts"),
    *("tsx", "css", "scss", "json", "html", "htm", "xml", "yaml", "yml", "txt", "csv", "log"),
    *("pdf", "docx", "xlsx", "exe", "dll", "jar"),
)
# Names and terms such as PBKDF2-HMAC-SHA256 and tokenizer.eos_token_id2, in any number of parts.
TERM = re.compile(r"[A-Za-z]+\d{0,3}[a-z]{0,4}(?:[-_.]+[A-Za-z]+\d{0,3}[a-z]{0,4})+")
DATE = re.compile(r"\d{1,2}([-/.])\d{1,2}\1\d{4}|\d{4}([-/. ])\d{1,2}\2\d{1,2}")
GROUPED = re.compile(
    r"(1[ .-])?(\([2-9]\d\d\) ?|[2-9]\d\d[.-])\d{3}[ .-]\d{4}|0[1-9]\d{8,9}|\d\d[ -]\d{4,5}-\d{4}"
)
ISSUERS = re.compile(r"4|5|6|2[2-7]|3[04-8]|1800|2131|0604|81")  # first digits of cards in use


@dataclass(frozen=True)
class Kind:
    """One kind of data: its expression (in the syntax RE2 and Python share), and a further test.

    `before` and `after` are what may not stand on either side, in Python's syntax; a character
    class comes first in them.
    """

    placeholder: str
    expression: str
    holds: Callable[[str, str], bool]  # takes the match, and the CONTEXT characters before it
    before: str = r"(?<![\w.@/\-])"
    after: str = r"(?![\w\-@])"

    @cached_property
    def pattern(self) -> re.Pattern[str]:
        """The whole expression, for Python."""
        return re.compile(f"{self.before}(?:{self.expression}){self.after}")

    @cached_property
    def search(self) -> str:
        """What RE2, which cannot look around, finds wherever `pattern` matches, and elsewhere."""
        before = self.before.replace(r"(?<!\d )", "").replace("(?<![", "(?:^|[^")
        expression = self.expression.replace(r"\s", r"\s\v\x1c-\x1f\x85\p{Z}")
        return f"{before}(?:{expression}){self.after.replace('(?![', '(?:$|[^')}"


def _always(match: str, before: str) -> bool:
    return True


def _is_card(match: str, before: str) -> bool:
    from stdnum import luhn

    digits = re.sub(r"\D", "", match)
    issued = ISSUERS.match(digits) is not None
    return issued and len(set(digits)) > 1 and int(luhn.checksum(digits)) == 0


def _is_iban(match: str, before: str) -> bool:
    from stdnum import iban

    # Without the checks of some countries, which refuse made-up numbers that look real.
    return bool(iban.is_valid(match, check_country=False))


def _is_address(match: str, before: str) -> bool:
    try:
        address = ipaddress.ip_address(match)
    except ValueError:
        return False
    if address.is_unspecified or address.is_loopback:  # nobody's: 0.0.0.0 and 127.0.0.1
        return False
    if any(address.version == one.version and address in one for one in LOCAL_NETWORKS):
        return False
    if ":" in match:
        return len(match) > 6 and any(map(str.isdigit, match))
    parts = list(map(int, match.split(".")))
    if parts[0] == 0 or parts[0] >= 224:  # networks, groups and masks, but no machine
        return False
    small = max(parts) < SMALL_PART and not ADDRESS_CUE.search(before)
    return not small and not NO_ADDRESS.search(before)


def _is_email(match: str, before: str) -> bool:
    name, _, domain = match.partition("@")
    is_file = domain.rpartition(".")[2].lower() in FILE_ENDINGS
    return not is_file and name != "git"  # git@github.com:owner/name is an account of everybody's


def _is_phone(match: str, before: str) -> bool:
    if NO_PHONE.search(before):
        return False
    cued = CUE.search(before) is not None
    if match.isdecimal() and (len(match) < LONG_NUMBER or match.endswith("0000")):
        cued = NEAR_CUE.search(before) is not None
    if match.isdecimal() and match[0] != "0" and not cued:  # may be any number
        return False
    number = re.split(r"[xe]", match)[0]
    digits = re.sub(r"\D", "", number)
    if DATE.fullmatch(number.strip()) or len(set(digits)) < 3:
        return False
    if re.match(r"\(?\+[1-9]|00[1-9]", number):
        return 8 <= len(digits) <= 17
    if cued:
        return 7 <= len(digits) <= 13
    local = re.match(r"\(\d{1,6}\)|0[1-9]\d{0,4}[ ./-]", number) and 9 <= len(digits) <= 12
    return bool(GROUPED.fullmatch(number.strip()) or local)


def _is_secret(match: str, before: str) -> bool:
    """Whether the match has an issuer's form, or assigns a value too random to be a word.

    Such a value has over 3 bits a character, a letter and a digit.
    """
    found = ASSIGNED.search(match)
    if not found:
        return not match.startswith("sk-") or any(map(str.isdigit, match))  # sk-learn-…
    value = found["value"]
    if TERM.fullmatch(value):
        return False
    shares = [count / len(value) for count in Counter(value).values()]
    bits = -sum(share * math.log2(share) for share in shares)
    mixed = any(map(str.isdigit, value)) and any(map(str.isalpha, value))
    return bool(re.fullmatch(_FORMS, value)) or (bits > 3 and mixed)


_FORMS = "|".join(
    [
        r"(?:AKIA|ASIA)[0-9A-Z]{16}",
        r"gh[pousr]_[A-Za-z0-9]{36,}",
        r"github_pat_[A-Za-z0-9_]{40,}",
        r"glpat-[A-Za-z0-9_\-]{20,}",
        r"xox[abeoprs]-[A-Za-z0-9\-]{10,}",
        r"AIza[0-9A-Za-z_\-]{35}",
        r"[sr]k_(?:live|test)_[A-Za-z0-9]{16,}",
        r"sk-[A-Za-z0-9_\-]{20,}",
        r"hf_[A-Za-z0-9]{30,}",
        r"npm_[A-Za-z0-9]{36}",
        r"pypi-[A-Za-z0-9_\-]{40,}",
        r"SG\.[A-Za-z0-9_\-]{16,}\.[A-Za-z0-9_\-]{16,}",
        r"(?:AC|SK)[0-9a-f]{32}",
        r"eyJ[A-Za-z0-9_\-]{10,}\.eyJ[A-Za-z0-9_\-]{10,}\.[A-Za-z0-9_\-]{10,}",
    ]
)
_ASSIGNED = (
    r"(?i:api[_-]?key|access[_-]?key|secret(?:[_-]?key)?|auth[_-]?token|access[_-]?token|token"
    r"|passw(?:or)?d)[\"']?[\s]*(?:[:=]|=>|:=|is)[\s]*[\"']?"
)
ASSIGNED = re.compile(rf"{_ASSIGNED}(?P<value>[A-Za-z0-9_\-/+.=]{{16,}})$")
KINDS = {
    "private_keys": Kind(
        "PRIVATE_KEY",
        r"-----BEGIN [A-Z0-9 ]*PRIVATE KEY(?: BLOCK)?-----(?:[A-Za-z0-9+/=:,.\-\s\\]*?"
        r"-----END [A-Z0-9 ]*KEY(?: BLOCK)?-----|[A-Za-z0-9+/=\s\\]*)",
        _always,
        before="",
        after="",
    ),
    "api_keys": Kind(
        "API_KEY",
        rf"{_FORMS}|{_ASSIGNED}[A-Za-z0-9_\-/+.=]{{16,}}",
        _is_secret,
        before=r"(?<![A-Za-z0-9])",
        after=r"(?![A-Za-z0-9])",
    ),
    "emails": Kind(
        "EMAIL",
        r"[A-Za-z0-9_][A-Za-z0-9._%+'\-]*@(?:[A-Za-z0-9\-]+\.)+[A-Za-z]{2,24}",
        _is_email,
        before=r"(?<![\w.%+\-@])",
        after=r"(?![\w@])",
    ),
    "ibans": Kind(
        "IBAN",
        r"[A-Za-z]{2}[0-9]{2}(?:[A-Za-z0-9]{11,30}|(?: [A-Z0-9]{4}){2,7}(?: [A-Z0-9]{1,3})?)",
        _is_iban,
    ),
    "cards": Kind(
        "CARD",
        r"[0-9](?:[ \-]?[0-9]){11,18}",
        _is_card,
        before=r"(?<![\w.\-])",
        after=r"(?![\w\-]|\.[0-9])",
    ),
    "ip_addresses": Kind(
        "IP_ADDRESS",
        r"(?:[0-9]{1,3}\.){3}[0-9]{1,3}"
        r"|(?:[0-9A-Fa-f]{1,4}:){1,7}(?::|(?::?[0-9A-Fa-f]{1,4}){1,7})",
        _is_address,
        before=r"(?<![\w.:])",
        after=r"(?![\w]|\.[0-9]|:[0-9A-Fa-f]{0,4}:)",
    ),
    "phones": Kind(
        "PHONE",
        r"(?:\(?\+|\(|)[0-9](?:(?: ?\(|\)[ \-]?|[ .\-/])?[0-9]){6,16}"
        r"(?: ?(?:x|ext\.?) ?[0-9]{1,6})?",
        _is_phone,
        before=r"(?<![\w.\-/])(?<!\d )",
        after=r"(?![\w\-/]|[.,:][0-9]|\.[A-Za-z]{2,4}\b| [0-9])",
    ),
}


@dataclass(frozen=True)
class _Lines:
    """The lines of some texts that may hold personal data.

    data: the UTF-8 bytes of the texts; line i has data[starts[i] : ends[i]] and belongs to
    text owners[i], an index into the texts.
    """

    data: np.ndarray
    offsets: np.ndarray  # of the texts in `data`
    starts: np.ndarray
    ends: np.ndarray
    owners: np.ndarray
    lines: pa.Array


def mask_personal_data(texts: Sequence[str], kinds: Sequence[str]) -> dict[int, tuple[str, str]]:
    """The texts that hold one of the kinds, by index: with placeholders, and the counts by kind.

    Private keys are looked for in whole texts, everything else line by line.
    """
    masked = list(texts)
    counts: dict[int, Counter[str]] = defaultdict(Counter)
    if "private_keys" in kinds:
        for number, text in enumerate(masked):
            if "-----BEGIN" in text:
                masked[number] = _mask(text, KINDS["private_keys"], counts[number])
    in_lines = [kind for kind in KINDS if kind in kinds and kind != "private_keys"]
    column = text_column(masked)
    numbers = _matching(column, in_lines).to_pylist()
    found = _find_lines(column.take(pa.array(numbers, pa.int64())), in_lines)
    owner_counts = [counts[numbers[owner]] for owner in found.owners.tolist()]
    changed = _mask_lines(found.lines, in_lines, owner_counts)
    for owner, text in _rejoin(found, changed):
        masked[numbers[owner]] = text
    return {
        number: (masked[number], ", ".join(f"{count} {name}" for name, count in own.items()))
        for number, own in sorted(counts.items())
        if own
    }


def _find_lines(texts: pa.Array, kinds: Sequence[str]) -> _Lines:
    """The lines of the texts that may hold one of the kinds."""
    data, offsets = text_buffers(texts)
    bounds = np.sort(np.concatenate([offsets, np.flatnonzero(data == ord("\n")) + 1]))
    lines = pa.LargeStringArray.from_buffers(
        len(bounds) - 1, pa.py_buffer(bounds), pa.py_buffer(data)
    )
    found = _matching(lines, kinds)
    places = np.array(found.to_pylist(), np.int64)
    starts = bounds[places]
    owners = np.searchsorted(offsets, starts, side="right") - 1
    return _Lines(data, offsets, starts, bounds[places + 1], owners, lines.take(found))


def _mask_lines(
    lines: pa.Array, kinds: Sequence[str], counts: Sequence[Counter[str]]
) -> dict[int, str]:
    """The lines that change, by index; adds what is replaced to the counts of each line."""
    changed: dict[int, str] = {}
    for kind in kinds:
        # Changed lines are searched again for each kind: a match may start after a placeholder
        # that could not start after the text which the placeholder replaced.
        for number in sorted({*_matching(lines, [kind]).to_pylist(), *changed}):
            line = changed.get(number) or lines[number].as_py()
            masked = _mask(line, KINDS[kind], counts[number])
            if masked != line:
                changed[number] = masked
    return changed


def _rejoin(found: _Lines, changed: dict[int, str]) -> Iterator[tuple[int, str]]:
    """The index of each text with changed lines, and the whole text."""
    for owner, own in groupby(sorted(changed), key=found.owners.__getitem__):
        copied, pieces = found.offsets[owner], []
        for number in own:
            pieces.append(found.data[copied : found.starts[number]].tobytes())
            pieces.append(changed[number].encode())
            copied = found.ends[number]
        pieces.append(found.data[copied : found.offsets[owner + 1]].tobytes())
        yield int(owner), b"".join(pieces).decode()


def _matching(texts: pa.Array, kinds: Sequence[str]) -> pa.Array:
    """Indices of the texts that may hold one of the kinds."""
    expression = "|".join(KINDS[kind].search for kind in kinds) or r"[^\s\S]"
    return pc.indices_nonzero(pc.match_substring_regex(texts, expression))


def _mask(text: str, kind: Kind, counts: Counter[str]) -> str:
    """The text with a placeholder for each match of the kind; adds their number to `counts`."""

    def replace(match: re.Match[str]) -> str:
        before = text[max(0, match.start() - CONTEXT) : match.start()]
        if not kind.holds(match[0], before):
            return match[0]
        counts[kind.placeholder] += 1
        assigned = ASSIGNED.search(match[0]) if kind.placeholder == "API_KEY" else None
        name = match[0][: assigned.start("value")] if assigned else ""
        return f"{name}<{kind.placeholder}>"

    return kind.pattern.sub(replace, text)
