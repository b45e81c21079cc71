import pytest

from lmadapt.provenance.redaction import redact_secrets


def test_passwords_in_addresses_are_replaced_at_any_depth() -> None:
    node = {"a": [{"uri": "postgresql://me:pass@host:1/db"}, "s3://bucket/x"], "n": 1, "none": None}
    assert redact_secrets(node) == {
        "a": [{"uri": "postgresql://***@host:1/db"}, "s3://bucket/x"],
        "n": 1,
        "none": None,
    }


@pytest.mark.parametrize(
    "key", ["password", "passwd", "pwd", "token", "secret", "Password", "sslpassword"]
)
def test_secrets_in_the_query_of_an_address_are_replaced(key: str) -> None:
    redacted = f"postgresql://host/db?user=me&{key}=***&tries=3"
    assert redact_secrets(redacted.replace("***", "a-b@c%20")) == redacted
