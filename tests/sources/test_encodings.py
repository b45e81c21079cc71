from pathlib import Path

import pytest

from lmadapt.core.errors import UserError
from lmadapt.sources.encodings import UnknownEncoding, decode, detect_encoding
from lmadapt.sources.readers import read_records

SENTENCES = {
    "cp1252": "The oven stays shut above 80 °C, because the coating gives off vapours.",
    "gb2312": "超过八十度时烤箱保持关闭。因为涂层会释放刺激肺部的蒸气。",
    "shift_jis": "八十度を超えるとオーブンは閉じたままです。",
    "koi8-r": "Печь остаётся закрытой выше восьмидесяти градусов.",
}
RUSSIAN = (
    "Печь остаётся закрытой выше восьмидесяти градусов, потому что покрытие выделяет пары, "
    "которые раздражают лёгкие."
)


def page(head: str, sentence: str) -> str:
    last = "In case of fire leave the building at once and call the fire brigade from outside."
    return (
        f"<html><head>{head}</head><body><article><p>{sentence}</p><p>{last}</p></article></body>"
        "</html>"
    )


def read_one(folder: Path, name: str, content: bytes) -> str:
    (folder / name).write_bytes(content)
    record = dict(read_records(folder, "text"))[name]
    return record if isinstance(record, str) else record["text"]


@pytest.mark.parametrize("encoding", SENTENCES)
@pytest.mark.parametrize(
    "head",
    ['<meta charset="{}">', '<meta http-equiv="Content-Type" content="text/html;charset={}"/>'],
)
def test_a_page_is_read_whole_in_the_encoding_that_it_declares(
    encoding: str, head: str, tmp_path: Path
) -> None:
    content = page(head.format(encoding), SENTENCES[encoding]).encode(encoding)
    text = read_one(tmp_path, "page.html", content)
    assert SENTENCES[encoding] in text
    assert text.endswith("call the fire brigade from outside.")


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32"])
@pytest.mark.parametrize("name", ["page.html", "page.txt"])
def test_a_document_in_unicode_is_read_whole(encoding: str, name: str, tmp_path: Path) -> None:
    content = page("", SENTENCES["cp1252"]).encode(encoding)
    text = read_one(tmp_path, name, content)
    assert SENTENCES["cp1252"] in text
    assert "call the fire brigade from outside." in text


def test_a_document_is_read_in_the_encoding_that_it_shows_beyond_doubt(tmp_path: Path) -> None:
    assert read_one(tmp_path, "a.txt", RUSSIAN.encode("cp1251")) == RUSSIAN


def test_a_document_of_doubtful_encoding_is_a_bad_record(tmp_path: Path) -> None:
    assert read_one(tmp_path, "a.html", page("", "80 °C").encode("cp1252")) == (
        "the byte 0xb0 at place 40 is not UTF-8, the text declares no encoding, and it could be of "
        "several encodings; save it as UTF-8"
    )
    content = page("<meta charset=utf-8>", "80 °C").encode("cp1252")
    assert "the text declares utf-8, which it is not" in read_one(tmp_path, "b.html", content)


def test_a_text_that_its_byte_order_mark_does_not_fit_is_refused() -> None:
    with pytest.raises(UnknownEncoding, match="mark of utf-16-le, but byte 4 is not utf-16-le"):
        decode("ab".encode("utf-16")[:-1])


def test_damaged_utf8_is_not_taken_for_another_encoding() -> None:
    assert detect_encoding([RUSSIAN.encode() + b"\xd0"]) == ""


@pytest.mark.parametrize("name", ["f.jsonl", "f.csv"])
@pytest.mark.parametrize("encoding", ["cp1251", "utf-8-sig", "utf-16", "utf-32"])
def test_lines_are_read_in_their_encoding(name: str, encoding: str, tmp_path: Path) -> None:
    lines = {"f.jsonl": f'{{"text": "{RUSSIAN}"}}\n' * 3, "f.csv": "text\n" + f'"{RUSSIAN}"\n' * 3}
    (tmp_path / name).write_bytes(lines[name].encode(encoding))
    assert [record for _, record in read_records(tmp_path / name, "text")] == [
        {"text": RUSSIAN}
    ] * 3


def test_utf16_cut_within_a_character_is_refused_at_its_line(tmp_path: Path) -> None:
    file = tmp_path / "f.jsonl"
    file.write_bytes('{"text": "a"}\n{"text": "b"}\n'.encode("utf-16")[:-3])
    with pytest.raises(UserError, match=r"f\.jsonl:\d: cannot be read from here on: .*utf-16"):
        list(read_records(file, "text"))
