import copy
from pathlib import Path

import pytest

from lmadapt.chat import encode_conversation
from lmadapt.derived_columns import count_tokens, derive, read_curated, require_tokenizer
from lmadapt.errors import UserError
from tests.raw_tables import Records, curate_records, prose, raw_records, write_curated
from tests.tiny import make_tiny_tokenizer

SHARING = {"near_duplicate_jaccard": 0.8, "decontaminate_ngram_words": 13}
TOKENIZER = make_tiny_tokenizer()


@pytest.fixture(scope="module")
def sound() -> Records:
    return curate_records(raw_records()).tables


def test_tokens_are_those_of_the_tokenizer(sound: Records) -> None:
    texts = [prose(n, 20) for n in range(1100)]
    assert count_tokens(texts, TOKENIZER) == [len(TOKENIZER.encode(text)) for text in texts]
    frame = derive(sound, TOKENIZER, **SHARING)["instructions"]
    encoded = encode_conversation(TOKENIZER, sound["instructions"][2]["messages"])
    assert frame["tokens"][2] == len(encoded.input_ids)
    assert frame["supervised_tokens"][2] == encoded.loss_tokens


def test_a_row_that_cannot_be_encoded_is_a_failing_row_with_its_error(sound: Records) -> None:
    tables = copy.deepcopy(sound)
    tables["instructions"][0]["messages"] = []
    tables["instructions"][1]["messages"] = None
    frame = derive(tables, TOKENIZER, **SHARING)["instructions"]
    assert [bool(problem) for problem in frame["encoding_problem"][:4]] == [True, True, False, False]
    assert "zero supervised tokens" in frame["encoding_problem"][0]


def test_a_near_duplicate_names_its_twin_and_follows_the_threshold(sound: Records) -> None:
    tables = copy.deepcopy(sound)
    tables["replay_text"][0]["text"] = f"{tables['heldout_text'][0]['text']} {prose(5, 5)}"
    for jaccard, twin in ((0.8, f"{tables['heldout_text'][0]['id']} (0.918)"), (0.95, "")):
        frames = derive(tables, TOKENIZER, near_duplicate_jaccard=jaccard, decontaminate_ngram_words=13)
        assert frames["replay_text"]["near_duplicate_of"][0] == twin


def test_a_leak_names_item_and_words_and_follows_the_length_of_the_run(sound: Records) -> None:
    tables = copy.deepcopy(sound)
    prompt = tables["items"][0]["prompt"]
    tables["replay_text"][0]["text"] += " ".join(["", *prompt.split()[1:]])
    for words, leaks in ((13, 0), (5, 1)):
        frame = derive(tables, TOKENIZER, near_duplicate_jaccard=0.8, decontaminate_ngram_words=words)["replay_text"]
        assert (frame["leak"] != "").sum() == leaks
    assert frame["leak"][0].startswith(f"item {tables['items'][0]['id']}: ")


def test_a_missing_table_is_named(sound: Records, tmp_path: Path) -> None:
    folder = write_curated(sound, tmp_path / "curated")
    (folder / "items.parquet").unlink()
    with pytest.raises(UserError, match=r"items\.parquet: no such file"):
        read_curated(folder)


def test_a_file_that_is_no_table_is_named(sound: Records, tmp_path: Path) -> None:
    folder = write_curated(sound, tmp_path / "curated")
    (folder / "items.parquet").write_text("PAR")
    with pytest.raises(UserError, match=r"items\.parquet: not a readable Parquet file"):
        read_curated(folder)


def test_categories_are_counted_by_group_and_an_item_without_a_cluster_is_its_own(sound: Records) -> None:
    tables = copy.deepcopy(sound)
    for item in tables["items"]:
        item.update(category="facts", cluster="" if item["group"] == "general" else "one")
    frame = derive(tables, TOKENIZER, **SHARING)["categories"]
    assert frame[["id", "location", "items", "clusters"]].to_numpy().tolist() == [
        ["facts", "domain", 10, 1],
        ["facts", "general", 10, 10],
    ]


def test_a_tokenizer_without_chat_template_is_refused() -> None:
    tokenizer = make_tiny_tokenizer()
    tokenizer.chat_template = None
    with pytest.raises(UserError, match=r"no chat template; fetch\.model.chat_template"):
        require_tokenizer(tokenizer, Path("models/base"))
