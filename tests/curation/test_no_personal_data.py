"""Numbers, names and prose that look like personal data."""

import pytest

from lmadapt.curation.personal_data import KINDS, mask_personal_data

LOOKALIKES = {
    "sections and versions": [
        "5.4.3.2 Access control",
        "see 12.1.4.3 and 2.0.0.1 of the standard",
        "Office 16.0.1.2 is installed",
        "§ 187.4.2.1 of the code",
        "firmware 192.4.2.1 fixes it",
        "Revision 201.0.1.9",
    ],
    "addresses of no person": [
        "netmask 255.255.255.0",
        "a wildcard of 0.0.0.255",
        "the private address 192.168.1.1 is the router",
        "10.200.31.44, 172.16.99.1 and 169.254.10.77 are local",
        "multicast goes to 239.255.255.250",
        "fe80::1ff:fe23:4567:890a on eth0, fd12:3456:789a::1",
    ],
    "file names": [
        "icon@2x.png",
        "hero-image@3x.webp, logo@dark.svg and main@v2.min.js",
        "scan 0412345678.jpg",
        "git clone git@github.com:huggingface/transformers.git",
    ],
    "numbers of books and codes": [
        "ISBN 0306406152",
        "ISBN-10: 0-306-40615-2",
        "PMID 0213456789",
        "ICD-10: 250.00, 401.9 and E11.65",
        "ISSN 0317-8471",
    ],
    "prose": [
        "sales reach 1250000 units",
        "the cell 1234567 contains",
        "score 300 200 1000",
        "a text of 1250000 words",
        "contacts 12345678 in all",
        "revenues that reach 1250000000 dollars",
        "each ring 7654321 atoms wide",
    ],
    "no keys": [
        "The token is base64url-encoded",
        "The password is PBKDF2-HMAC-SHA256",
        "sk-learn-something-long-name-here",
        "token = tokenizer.eos_token_id2",
        "secret: kubernetes-secret-name-v2",
        "access_token=settings.oauth2_access_token",
    ],
}
DATA = [
    ("from 8.8.4.4 to us", "from <IP_ADDRESS> to us"),
    ("host 203.0.113.9 and 17.30.2.1", "host <IP_ADDRESS> and <IP_ADDRESS>"),
    ("2a00:1450:4001:81b::200e", "<IP_ADDRESS>"),
    ("reach us at 5272868387", "reach us at <PHONE>"),
    ("Ring 5272868387 to book a table", "Ring <PHONE> to book a table"),
    ("Her mobile is 5272868, after six", "Her mobile is <PHONE>, after six"),
    ("Fax no. 5272868387", "Fax no. <PHONE>"),
    ("text me on 5272868387", "text me on <PHONE>"),
    ("my cell is 527-286-8387", "my cell is <PHONE>"),
    ("527-286-8387, 527.286.8387", "<PHONE>, <PHONE>"),
    ("jane@example.py and jo@2x.io", "<EMAIL> and <EMAIL>"),
    ("password: wJalrXUtnFEMI/K7MDENG/bPx", "password: <API_KEY>"),
    ("key sk-proj-abcdefghij0123456789", "key <API_KEY>"),
    ("the token is 9f86d081884c7d659a2feaa0", "the token is <API_KEY>"),
]


@pytest.mark.parametrize("lines", LOOKALIKES.values(), ids=LOOKALIKES)
def test_what_only_looks_like_personal_data_stays(lines: list[str]) -> None:
    found = mask_personal_data(lines, tuple(KINDS))
    assert [found[number][0] for number in found] == []


def test_personal_data_in_such_places_is_masked() -> None:
    found = mask_personal_data([text for text, _ in DATA], tuple(KINDS))
    assert [found.get(number, ("",))[0] for number in range(len(DATA))] == [
        masked for _, masked in DATA
    ]
