from collections import Counter
from itertools import chain

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lmadapt.curation.personal_data import KINDS, _mask, mask_personal_data


def masked(text: str, kinds: tuple[str, ...] = tuple(KINDS)) -> str:
    return mask_personal_data([text], kinds).get(0, (text, ""))[0]


CASES = {
    "emails": [("Write to jane.roe+x@mail.example.org.", "Write to <EMAIL>.")],
    "phones": [
        ("Call +49 (0) 9141 777631 now", "Call <PHONE> now"),
        ("(591)341-7776 is hers", "<PHONE> is hers"),
        ("Tel. 5272868387", "Tel. <PHONE>"),
        ("01 83 41 77 76", "<PHONE>"),
    ],
    "ip_addresses": [
        ("from 192.0.2.17:22", "from <IP_ADDRESS>:22"),
        ("via 2001:db8::8a2e:370:7334.", "via <IP_ADDRESS>."),
    ],
    "cards": [
        ("4111 1111 1111 1111 expired", "<CARD> expired"),
        ("pay 378282246310005", "pay <CARD>"),
    ],
    "ibans": [
        ("to DE89 3704 0044 0532 0130 00.", "to <IBAN>."),
        ("GB82WEST12345698765432", "<IBAN>"),
    ],
    "api_keys": [
        ("key AKIAIOSFODNN7EXAMPLE", "key <API_KEY>"),
        ('api_key = "9f86d081884c7d659a2feaa0c55ad015"', 'api_key = "<API_KEY>"'),
    ],
    "private_keys": [
        (
            "x\n-----BEGIN RSA PRIVATE KEY-----\nMIIEow\nAbc=\n-----END RSA PRIVATE KEY-----\ny",
            "x\n<PRIVATE_KEY>\ny",
        ),
        ("-----BEGIN PRIVATE KEY-----\nMIIEow\nAbc=", "<PRIVATE_KEY>"),
    ],
}


@pytest.mark.parametrize("kind", CASES)
def test_each_kind_is_replaced_and_can_be_switched_off(kind: str) -> None:
    others = tuple(other for other in KINDS if other != kind)
    for text, expected in CASES[kind]:
        assert masked(text) == masked(text, (kind,)) == expected
        assert masked(text, others) != expected


def test_every_kind_is_tested() -> None:
    assert set(CASES) == set(KINDS)


@pytest.mark.parametrize(
    "text",
    [
        "Version 1.2.3.4 and section 4.3.2.1, pkg==1.0.0.1",
        "4111 1111 1111 1112 fails Luhn, and so does 1234567890123456",
        "GB82WEST12345698765431 fails modulo 97",
        "Published 2024-01-31, 31.01.2024, at 12:34:56",
        "ISBN 978-3-16-148410-0 costs 1,234,567.89",
        "@decorator, user@localhost, a::b, std::vector",
        "token: aaaaaaaaaaaaaaaaaaaaaaaa, password: correcthorsebatterystaple",
        "0.0.0.0.0 and 300.1.1.1, 0.0.0.0 and 127.0.0.1",
        "commit 2fd4e1c67a2d28fced849ee1bb76e7391b93eb12",
    ],
)
def test_lookalikes_of_personal_data_stay(text: str) -> None:
    assert mask_personal_data([text], tuple(KINDS)) == {}


def test_the_evidence_has_kinds_and_counts_but_no_values() -> None:
    found = mask_personal_data(["nothing", "a@b.org c@d.org 192.0.2.1"], tuple(KINDS))
    assert found == {1: ("<EMAIL> <EMAIL> <IP_ADDRESS>", "2 EMAIL, 1 IP_ADDRESS")}


@settings(deadline=None, max_examples=150)
@given(st.text(st.sampled_from("0123456789 +-.:@()abcXKEY/=\n"), max_size=60))
def test_a_second_masking_changes_nothing(text: str) -> None:
    once = masked(text)
    assert masked(once) == once


SENTENCES = [sentence for sentence, _ in chain(*CASES.values())]
PIECES = [
    *SENTENCES,
    *" ".join(SENTENCES).split(" "),
    *"0123456789 +-.:@()/=\n\n_aFxé\u00a0",
    "AKIA",
    "2001:db8::",
    "api_key",
    "call ",
    "127.",
    "xoxb-",
    "\u0663",
]


@settings(deadline=None, max_examples=400)
@given(st.lists(st.lists(st.sampled_from(PIECES), max_size=12).map("".join), max_size=4))
def test_the_fast_search_misses_nothing_that_the_expressions_find(texts: list[str]) -> None:
    expected = []
    for text in texts:
        lines = _mask(text, KINDS["private_keys"], Counter()).split("\n")
        for kind in KINDS.values():
            lines = [
                line if kind is KINDS["private_keys"] else _mask(line, kind, Counter())
                for line in lines
            ]
        expected.append("\n".join(lines))
    found = mask_personal_data(texts, tuple(KINDS))
    assert [found.get(place, (text, ""))[0] for place, text in enumerate(texts)] == expected
