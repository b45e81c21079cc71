"""The encoding of a text: what it declares, or what it shows beyond doubt. Nothing is shortened."""

import codecs
import io
import re
from collections.abc import Iterable

# Longest first: the mark of UTF-32 starts with that of UTF-16.
BYTE_ORDER_MARKS = {
    codecs.BOM_UTF32_LE: "utf-32-le",
    codecs.BOM_UTF32_BE: "utf-32-be",
    codecs.BOM_UTF8: "utf-8",
    codecs.BOM_UTF16_LE: "utf-16-le",
    codecs.BOM_UTF16_BE: "utf-16-be",
}
# The HTML standard looks for a declaration in the first 1,024 bytes; some pages have it later.
DECLARED_WITHIN = 4096  # bytes
DECLARATION = re.compile(
    rb"""<meta[^>]*?charset\s*=\s*["']?\s*([\w.:-]+)|<\?xml[^>]*?encoding\s*=\s*["']([\w.:-]+)""",
    re.IGNORECASE,
)
# What pages mean by a name, where it is more than the name says (WHATWG, Encoding, section 4.2).
MEANT = {
    "ascii": "cp1252",
    "iso8859-1": "cp1252",
    "iso8859-9": "cp1254",
    "gb2312": "gb18030",
    "gbk": "gb18030",
    "shift_jis": "cp932",
    "euc_kr": "cp949",
    "big5": "big5hkscs",
}
SHIFTED = ("iso2022", "hz")  # made of ASCII bytes alone
# Of charset-normalizer, both from 0 to 1. On 254 pieces of 15 to 200 characters, in 15 languages
# and encodings, these limits name no wrong encoding; with any coherence, 8 were wrong.
MAX_CHAOS, MIN_COHERENCE, MARGIN, MORE_CHAOS = 0.05, 0.2, 0.1, 0.1
MIN_OTHER_BYTES = 8  # one odd byte among ASCII could be of any encoding
SAMPLE_BYTES = 2**18


class UnknownEncoding(Exception):
    """A text whose encoding is neither declared nor beyond doubt; says what is wrong."""


def decode(data: bytes, *, markup: bool = False) -> str:
    """The text of a whole file, without its byte-order mark.

    In this order: the byte-order mark, a declaration (with `markup`), UTF-8, UTF-16 by its zero
    bytes, and charset-normalizer where it is sure. Raises UnknownEncoding when none of them
    decodes every byte.
    """
    marked = mark_encoding(data)
    if marked:
        return _decode_marked(data, *marked)
    declared = _declared_encoding(data) if markup else ""
    for encoding in _candidates(data, declared):
        try:
            return data.decode(encoding)
        except (UnicodeDecodeError, LookupError):
            continue
    detected = detect_encoding([data])
    if detected:
        return data.decode(detected)
    raise UnknownEncoding(_problem(data, declared))


def mark_encoding(start: bytes) -> tuple[bytes, str] | None:
    """The byte-order mark that a file starts with and its encoding; None without a mark."""
    for mark, encoding in BYTE_ORDER_MARKS.items():
        if start.startswith(mark):
            return mark, encoding
    return None


def detect_encoding(pieces: Iterable[bytes]) -> str:
    """The one encoding of pieces of text that are not UTF-8; "" when there is any doubt.

    Text with more characters of UTF-8 than other bytes is damaged UTF-8, not another encoding.
    """
    from charset_normalizer import from_bytes

    data = b"".join(pieces)
    text = data.decode("utf-8", "surrogateescape")
    broken = sum("\udc80" <= character <= "\udcff" for character in text)
    if sum(character > "\x7f" for character in text) >= 2 * broken or broken < MIN_OTHER_BYTES:
        return ""
    best, *others = [*from_bytes(data[:SAMPLE_BYTES])] or [None]
    if best is None or best.chaos > MAX_CHAOS or best.coherence < MIN_COHERENCE:
        return ""
    for other in others:
        doubtful = other.chaos <= best.chaos + MORE_CHAOS
        if doubtful and other.coherence > best.coherence - MARGIN and str(other) != str(best):
            return ""
    try:
        data.decode(best.encoding)
    except UnicodeDecodeError:
        return ""
    return str(best.encoding)


class Recoded(io.RawIOBase):
    """A stream of another encoding, read as UTF-8.

    Half a character becomes bytes that are not UTF-8. Reading raises UnicodeDecodeError where the
    stream ends within a character.
    """

    def __init__(self, stream: io.BufferedIOBase, encoding: str) -> None:
        self._stream, self._left = stream, b""
        self._decoder = codecs.getincrementaldecoder(encoding)("surrogatepass")

    def readable(self) -> bool:
        """True."""
        return True

    def readinto(self, target: "memoryview") -> int:  # type: ignore[override]
        """Fill `target` with UTF-8; return the number of bytes, 0 at the end."""
        while not self._left:
            data = self._stream.read(2**16)
            text = self._decoder.decode(data, final=not data)
            self._left = text.encode("utf-8", "surrogatepass")
            if not data:
                break
        count = min(len(target), len(self._left))
        target[:count], self._left = self._left[:count], self._left[count:]
        return count

    def close(self) -> None:
        """Close the stream that is read, too."""
        self._stream.close()
        super().close()


def _decode_marked(data: bytes, mark: bytes, encoding: str) -> str:
    try:
        return data[len(mark) :].decode(encoding)
    except UnicodeDecodeError as error:
        place = len(mark) + error.start
        raise UnknownEncoding(
            f"starts with the byte-order mark of {encoding}, but byte {place} is not {encoding}"
        ) from None


def _candidates(data: bytes, declared: str) -> list[str]:
    if declared.startswith(SHIFTED):
        return [declared, "utf-8"]
    zeros = utf16_by_zeros(data)
    return [zeros] if zeros else list(filter(None, ["utf-8", declared]))


def _declared_encoding(data: bytes) -> str:
    """The Python name of the encoding that a page declares; "" for none that is known."""
    found = DECLARATION.search(data[:DECLARED_WITHIN])
    if not found:
        return ""
    try:
        name = codecs.lookup((found[1] or found[2]).decode("ascii")).name
    except (LookupError, UnicodeDecodeError):
        return ""
    return MEANT.get(name, name)


def utf16_by_zeros(data: bytes) -> str:
    """The UTF-16 that text without a mark shows: every other byte of ASCII text is zero."""
    if b"\0" not in data[:SAMPLE_BYTES] or len(data) % 2:
        return ""
    sample = data[:SAMPLE_BYTES]
    half = len(sample) // 2
    even, odd = sample[::2].count(0), sample[1::2].count(0)
    if max(even, odd) < half * 0.3 or min(even, odd) > half * 0.02:
        return ""
    return "utf-16-be" if even > odd else "utf-16-le"


def _problem(data: bytes, declared: str) -> str:
    try:
        data.decode()
        place = 0
    except UnicodeDecodeError as error:
        place = error.start
    said = f"declares {declared}, which it is not" if declared else "declares no encoding"
    return (
        f"the byte 0x{data[place]:02x} at place {place} is not UTF-8, the text {said}, and it "
        "could be of several encodings; save it as UTF-8"
    )
