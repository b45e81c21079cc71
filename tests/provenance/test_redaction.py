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


@pytest.mark.parametrize(
    "address",
    [
        "https://a.blob.core.windows.net/c?sv=2024&sig={}&se=2027",
        "https://b.s3.amazonaws.com/k?X-Amz-Signature={}&X-Amz-Expires=60",
        "https://b.s3.amazonaws.com/k?X-Amz-Credential={}",
        "https://b.s3.amazonaws.com/k?X-Amz-Security-Token={}",
        "https://storage.googleapis.com/b/k?X-Goog-Signature={}",
        "https://host/data?api_key={}",
        "https://host/data?apikey={}#part",
        "DefaultEndpointsProtocol=https;AccountName=n;AccountKey={};EndpointSuffix=x",
        "s3://bucket/k?aws_secret_access_key={}",
        "redirect?to=https%3A%2F%2Fhost%2F%3Ftoken%3D{}",
        "curl -H 'Authorization: Bearer {}' https://host",
        "{{'x-api-key': '{}'}}",
    ],
)
def test_signed_addresses_and_headers_lose_their_secrets(address: str) -> None:
    secret = "Zm9vYmFy/Kg+q0v9="
    assert redact_secrets(address.format(secret)).rstrip("=").count("Zm9vYmFy") == 0
    assert redact_secrets(address.format(secret)).startswith(address[:8].replace("{{", "{"))


@pytest.mark.parametrize(
    "token",
    [
        "hf_" + "aB3" * 11,
        "ghp_" + "x1" * 18,
        "github_pat_" + "A1_" * 10,
        "glpat-" + "aB-3" * 5,
        "AKIA" + "ABCD" * 4,
        "xoxb-1234567890-abc",
        "sk-proj-" + "Ab1" * 10,
        "eyJhbGciOiJI.eyJzdWIiOiIx.c2lnbmF0dXJl",
    ],
)
def test_tokens_of_a_known_form_are_replaced_wherever_they_stand(token: str) -> None:
    assert redact_secrets([f"fetching with {token}, then"]) == ["fetching with ***, then"]


def test_a_text_under_the_name_of_a_secret_is_one() -> None:
    node = {"api_key": "short", "PGPASSWORD": "p", "client_secret": "s", "nested": {"token": "t"}}
    found = redact_secrets(node)
    assert found == {
        "api_key": "***",
        "PGPASSWORD": "***",
        "client_secret": "***",
        "nested": {"token": "***"},
    }


@pytest.mark.parametrize(
    "text",
    [
        "max_tokens=1500 and batch_tokens=256",
        "significance=0.05",
        "the signature of a function, a secret garden, token by token",
        "https://host/path?design=7&monkey=banana",
        "sk-learn and hf_hub and eyJ",
        "a price of 3@4 and ask@example.org",
    ],
)
def test_other_texts_stay_as_they_are(text: str) -> None:
    assert redact_secrets({"key": text}) == {"key": text}


def test_special_tokens_and_numbers_under_such_a_name_stay() -> None:
    node = {"eos_token": "</s>", "pad_token": "[PAD]", "max_tokens": 8, "bos_token": None}
    assert redact_secrets(node) == node
