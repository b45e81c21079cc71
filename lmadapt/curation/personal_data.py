"""Personal data and secrets in text, replaced by typed placeholders such as <EMAIL>.

A fast search (Arrow's RE2) picks the texts and in them the lines worth a look, for each kind; only in those do Python's
expressions run, and what has a checksum is checked: cards by Luhn (ISO/IEC 7812-1), account numbers by country and
modulo 97 (ISO 13616), addresses by the ipaddress module. Forms of API keys are those that GitHub's secret scanning and
detect-secrets list; other values count where they are assigned to a name such as `api_key`.
"""

import ipaddress
import math
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import groupby

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from lmadapt.curation.word_hashes import text_buffers, text_column

CONTEXT = 24  # characters before a candidate that may tell what it is
CUE = re.compile(
    r"(?i)\b(phone|tel|telephone|mobile|cell|fax|call|contact|dial|ring|sms|text|whatsapp|number is|reach)\b[^\d\n]*$"
)
NO_ADDRESS = re.compile(
    r"(?i)(\b(v|ver|version|release|build|section|chapter|figure|table|oid)[ .:=]*|[=~<>]=\s*[\"']?)$"
)
DATE = re.compile(r"\d{1,2}([-/.])\d{1,2}\1\d{4}|\d{4}([-/. ])\d{1,2}\2\d{1,2}")
GROUPED = re.compile(
    r"(1[ .-])?(\([2-9]\d\d\) ?|[2-9]\d\d[ .-])\d{3}[ .-]\d{4}|0[1-9]\d{8,9}|\d\d[ -]\d{4,5}-\d{4}"
)
ISSUERS = re.compile(r"4|5|6|2[2-7]|3[04-8]|1800|2131|0604|81")  # first digits of cards in use
IBAN_COUNTRIES = (  # SWIFT, IBAN registry
    "AD AE AL AT AZ BA BE BG BH BI BR BY CH CR CY CZ DE DJ DK DO EE EG ES FI FK FO FR GB GE GI GL GR GT HR HU IE IL IQ "
    "IS IT JO KW KZ LB LC LI LT LU LV LY MC MD ME MK MN MR MT MU NI NL NO OM PK PL PS PT QA RO RS RU SA SC SD SE SI SK "
    "SM SO ST SV TL TN TR UA VA VG XK YE"
)


@dataclass(frozen=True)
class Kind:
    """One kind of data: its expression (in the syntax RE2 and Python share), and what a match must also be."""

    placeholder: str
    expression: str
    holds: Callable[[str, str], bool] = lambda match, before: (
        True
    )  # the match, and CONTEXT characters before it
    before: str = (
        r"(?<![\w.@/\-])"  # what may not stand on either side, in Python's syntax; a class first
    )
    after: str = r"(?![\w\-@])"

    @cached_property
    def pattern(self) -> re.Pattern[str]:
        """The whole expression; a group `value` is what is replaced, where there is one."""
        return re.compile(f"{self.before}(?:{self.expression}){self.after}")

    @cached_property
    def search(self) -> str:
        """What RE2, which cannot look around, finds wherever `pattern` matches, and elsewhere."""
        before = self.before.replace(r"(?<!\d )", "").replace("(?<![", "(?:^|[^")
        expression = self.expression.replace(r"\s", r"\s\v\x1c-\x1f\x85\p{Z}")
        return f"{before}(?:{expression}){self.after.replace('(?![', '(?:$|[^')}"


def _is_card(match: str, before: str) -> bool:
    digits = [int(character) for character in match if character.isdigit()]
    doubled = [2 * digit - 9 * (digit > 4) for digit in digits[-2::-2]]
    issued = ISSUERS.match("".join(map(str, digits)))
    return bool(issued) and len(set(digits)) > 1 and (sum(digits[-1::-2]) + sum(doubled)) % 10 == 0


def _is_iban(match: str, before: str) -> bool:
    compact = match.replace(" ", "").upper()
    return (
        compact[:2] in IBAN_COUNTRIES
        and int("".join(str(int(character, 36)) for character in compact[4:] + compact[:4])) % 97
        == 1
    )


def _is_address(match: str, before: str) -> bool:
    try:
        address = ipaddress.ip_address(match)
    except ValueError:
        return False
    if (
        address.is_unspecified or address.is_loopback
    ):  # 0.0.0.0 and 127.0.0.1 tell nothing about anybody
        return False
    if ":" in match:
        return len(match) > 6 and any(map(str.isdigit, match))
    return not NO_ADDRESS.search(before)


def _is_phone(match: str, before: str) -> bool:
    told = CUE.search(before) is not None
    if match.isdecimal() and match[0] != "0" and not told:  # any number
        return False
    number = re.split(r"[xe]", match)[0]
    digits = re.sub(r"\D", "", number)
    if DATE.fullmatch(number.strip()) or len(set(digits)) < 3:
        return False
    if re.match(r"\(?\+[1-9]|00[1-9]", number):
        return 8 <= len(digits) <= 17
    if told:
        return 7 <= len(digits) <= 13
    local = re.match(r"\(|0[1-9]\d{0,4}[ ./-]", number) and 9 <= len(digits) <= 12
    return bool(GROUPED.fullmatch(number.strip()) or local)


def _is_secret(match: str, before: str) -> bool:
    """A form of its own, or a value too random for a word: above 3 bits a character, and with a digit."""
    if not (found := ASSIGNED.search(match)):
        return True
    value = found["value"]
    bits = -sum(n / len(value) * math.log2(n / len(value)) for n in Counter(value).values())
    mixed = any(map(str.isdigit, value)) and any(map(str.isalpha, value))
    return bool(re.fullmatch(_FORMS, value)) or (bits > 3 and mixed)


_FORMS = (
    r"(?:AKIA|ASIA)[0-9A-Z]{16}|gh[pousr]_[A-Za-z0-9]{36,}|github_pat_[A-Za-z0-9_]{40,}|glpat-[A-Za-z0-9_\-]{20,}"
    r"|xox[abeoprs]-[A-Za-z0-9\-]{10,}|AIza[0-9A-Za-z_\-]{35}|[sr]k_(?:live|test)_[A-Za-z0-9]{16,}"
    r"|sk-[A-Za-z0-9_\-]{20,}|hf_[A-Za-z0-9]{30,}|npm_[A-Za-z0-9]{36}|pypi-[A-Za-z0-9_\-]{40,}"
    r"|SG\.[A-Za-z0-9_\-]{16,}\.[A-Za-z0-9_\-]{16,}|(?:AC|SK)[0-9a-f]{32}"
    r"|eyJ[A-Za-z0-9_\-]{10,}\.eyJ[A-Za-z0-9_\-]{10,}\.[A-Za-z0-9_\-]{10,}"
)
_ASSIGNED = (
    r"(?i:api[_-]?key|access[_-]?key|secret(?:[_-]?key)?|auth[_-]?token|access[_-]?token|token|passw(?:or)?d)"
    r"[\"']?[\s]*(?:[:=]|=>|:=|is)[\s]*[\"']?"
)
ASSIGNED = re.compile(rf"{_ASSIGNED}(?P<value>[A-Za-z0-9_\-/+.=]{{16,}})$")
KINDS = {
    "private_keys": Kind(
        "PRIVATE_KEY",
        r"-----BEGIN [A-Z0-9 ]*PRIVATE KEY(?: BLOCK)?-----(?:[A-Za-z0-9+/=:,.\-\s\\]*?"
        r"-----END [A-Z0-9 ]*KEY(?: BLOCK)?-----|[A-Za-z0-9+/=\s\\]*)",
        before="", after="",
    ),
    "api_keys": Kind(
        "API_KEY",
        rf"{_FORMS}|{_ASSIGNED}[A-Za-z0-9_\-/+.=]{{16,}}",
        _is_secret, before=r"(?<![A-Za-z0-9])", after=r"(?![A-Za-z0-9])",
    ),
    "emails": Kind(
        "EMAIL",
        r"[A-Za-z0-9_][A-Za-z0-9._%+'\-]*@(?:[A-Za-z0-9\-]+\.)+[A-Za-z]{2,24}",
        before=r"(?<![\w.%+\-@])", after=r"(?![\w@])",
    ),
    "ibans": Kind(
        "IBAN", r"[A-Za-z]{2}[0-9]{2}(?:[A-Za-z0-9]{11,30}|(?: [A-Z0-9]{4}){2,7}(?: [A-Z0-9]{1,3})?)", _is_iban),
    "cards": Kind("CARD", r"[0-9](?:[ \-]?[0-9]){11,18}", _is_card, r"(?<![\w.\-])", r"(?![\w\-]|\.[0-9])"),
    "ip_addresses": Kind(
        "IP_ADDRESS",
        r"(?:[0-9]{1,3}\.){3}[0-9]{1,3}|(?:[0-9A-Fa-f]{1,4}:){1,7}(?::|(?::?[0-9A-Fa-f]{1,4}){1,7})",
        _is_address, before=r"(?<![\w.:])", after=r"(?![\w]|\.[0-9]|:[0-9A-Fa-f]{0,4}:)",
    ),
    "phones": Kind(
        "PHONE",
        r"(?:\(?\+|\(|)[0-9](?:(?: ?\(|\)[ \-]?|[ .\-/])?[0-9]){6,16}(?: ?(?:x|ext\.?) ?[0-9]{1,6})?",
        _is_phone, before=r"(?<![\w.\-/])(?<!\d )", after=r"(?![\w\-/]|[.,:][0-9]| [0-9])",
    ),
}  # fmt: skip


def mask_personal_data(texts: Sequence[str], kinds: Sequence[str]) -> dict[int, tuple[str, str]]:
    """By place, the texts that hold any of the kinds: with placeholders, and how many of which kind were put in.

    Private keys are looked for in whole texts, everything else line by line.
    """
    texts, in_lines = (
        list(texts),
        [kind for kind in KINDS if kind in kinds and kind != "private_keys"],
    )
    counts: dict[int, Counter[str]] = defaultdict(Counter)
    for place, text in enumerate(texts) if "private_keys" in kinds else ():
        if "-----BEGIN" in text:
            texts[place] = _mask(text, KINDS["private_keys"], counts[place])
    column = text_column(texts)
    data, offsets = text_buffers(column.take(places := _matching(column, in_lines)))
    bounds = np.sort(np.concatenate([offsets, np.flatnonzero(data == 10) + 1]))
    lines = pa.LargeStringArray.from_buffers(
        len(bounds) - 1, pa.py_buffer(bounds), pa.py_buffer(data)
    )
    worth = lines.take(found := _matching(lines, in_lines))
    own, numbers = worth.to_pylist(), np.array(found.to_pylist(), np.int64)
    changed: set[int] = set()
    owners = np.searchsorted(offsets, bounds[numbers], side="right") - 1
    for kind in in_lines:
        # Lines changed before are looked at too: behind a placeholder may begin what could not behind what it replaced.
        for one in sorted({*_matching(worth, [kind]).to_pylist(), *changed}):
            masked = _mask(own[one], KINDS[kind], counts[places[owners[one]].as_py()])
            if masked != own[one]:
                own[one] = masked
                changed.add(one)
    for owner, mine in groupby(sorted(changed), key=owners.__getitem__):
        behind, pieces = offsets[owner], []
        for one in mine:
            start, end = bounds[numbers[one] :][:2]
            pieces += [data[behind:start].tobytes(), own[one].encode()]
            behind = end
        pieces.append(data[behind : offsets[owner + 1]].tobytes())
        texts[places[owner].as_py()] = b"".join(pieces).decode()
    return {
        place: (texts[place], ", ".join(f"{number} {name}" for name, number in own_counts.items()))
        for place, own_counts in sorted(counts.items())
        if own_counts
    }


def _matching(texts: pa.Array, kinds: Sequence[str]) -> pa.Array:
    """Places of the texts that may hold one of the kinds."""
    expression = "|".join(KINDS[kind].search for kind in kinds) or r"[^\s\S]"
    return pc.indices_nonzero(pc.match_substring_regex(texts, expression))


def _mask(text: str, kind: Kind, counts: Counter[str]) -> str:
    def replace(match: re.Match[str]) -> str:
        if not kind.holds(match[0], match.string[max(0, match.start() - CONTEXT) : match.start()]):
            return match[0]
        counts[kind.placeholder] += 1
        assigned = ASSIGNED.search(match[0]) if kind.placeholder == "API_KEY" else None
        return f"{match[0][: assigned.start('value')] if assigned else ''}<{kind.placeholder}>"

    return kind.pattern.sub(replace, text)
