import copy
from pathlib import Path

import pytest

from lmadapt.core.errors import UserError
from lmadapt.models.chat import encode_conversation
from lmadapt.validation.measured_tables import measure_tables, require_tokenizer
from tests.raw_tables import (
    MEASURING,
    Records,
    curate_records,
    measured_frames,
    prose,
    raw_records,
    write_curated,
)
from tests.tiny import make_tiny_tokenizer

TOKENIZER = make_tiny_tokenizer()


@pytest.fixture(scope="module")
def sound() -> Records:
    return curate_records(raw_records()).tables


def test_tokens_are_those_of_the_tokenizer(sound: Records) -> None:
    frames = measured_frames(sound, TOKENIZER)
    assert frames["corpus"]["tokens"].tolist() == [
        len(TOKENIZER.encode(row["text"])) for row in sound["corpus"]
    ]
    encoded = encode_conversation(TOKENIZER, sound["instructions"][2]["messages"])
    assert frames["instructions"]["tokens"][2] == len(encoded.input_ids)
    assert frames["instructions"]["supervised_tokens"][2] == encoded.loss_tokens


def test_a_row_that_cannot_be_encoded_is_a_failing_row_with_its_error(sound: Records) -> None:
    tokenizer = make_tiny_tokenizer()
    tokenizer.chat_template = "{{ raise_exception('not today') }}"
    tables = copy.deepcopy(sound)
    tables["instructions"][0]["messages"] = []
    frame = measured_frames(tables, tokenizer)["instructions"]
    assert [bool(problem) for problem in frame["encoding_problem"][:3]] == [False, True, True]
    assert [bool(problem) for problem in frame["role_order_problem"][:3]] == [True, False, False]
    assert "not today" in frame["encoding_problem"][1]


def test_a_near_duplicate_names_its_twin_and_follows_the_threshold(sound: Records) -> None:
    tables = copy.deepcopy(sound)
    tables["replay_text"][0]["text"] = f"{tables['heldout_text'][0]['text']} {prose(5, 5)}"
    for jaccard, twin in ((0.8, f"{tables['heldout_text'][0]['id']} (0.918)"), (0.95, "")):
        frames = measured_frames(tables, TOKENIZER, near_duplicate_jaccard=jaccard)
        assert frames["replay_text"]["heldout_overlap"][0] == twin
        assert frames["replay_text"]["near_duplicate_of"][0] == ""


def test_an_answer_that_repeats_held_out_text_is_found(sound: Records) -> None:
    tables = copy.deepcopy(sound)
    tables["instructions"][0]["messages"][-1]["content"] = tables["heldout_text"][0]["text"].upper()
    frame = measured_frames(tables, TOKENIZER)["instructions"]
    assert frame["heldout_overlap"][0] == f"{tables['heldout_text'][0]['id']} (1.000)"


def test_a_leak_names_item_and_words_and_follows_the_length_of_the_run(sound: Records) -> None:
    tables = copy.deepcopy(sound)
    prompt = tables["items"][0]["prompt"]
    tables["replay_text"][0]["text"] += " ".join(["", *prompt.split()[1:]])
    for words, leaks in ((13, 0), (5, 1)):
        frame = measured_frames(tables, TOKENIZER, decontaminate_ngram_words=words)["replay_text"]
        assert (frame["leak"] != "").sum() == leaks
    assert frame["leak"][0].startswith(f"item {tables['items'][0]['id']}: ")


def test_personal_data_that_is_left_is_counted_but_not_shown(sound: Records) -> None:
    tables = copy.deepcopy(sound)
    tables["corpus"][0]["text"] += " Ask jane.roe@example.org."
    frame = measured_frames(tables, TOKENIZER)["corpus"]
    assert frame["personal_data"][0] == "personal data: 1 EMAIL"
    assert "".join(frame["personal_data"][1:]) == ""
    assert not measured_frames(tables, TOKENIZER, personal_data=["phones"])["corpus"][
        "personal_data"
    ].any()


def test_sizes_are_rows_length_and_vocabulary_of_each_table(sound: Records) -> None:
    frame = measured_frames(sound, TOKENIZER)["sizes"].set_index("id")
    words = set().union(*(row["text"].lower()[:-1].split() for row in sound["replay_text"]))
    assert frame.loc["replay_text", "rows"] == len(sound["replay_text"])
    assert frame.loc["replay_text", "vocabulary"] == len(words)
    assert frame.loc["replay_text", "tokens_per_row"] > 60


def test_a_missing_table_is_named(sound: Records, tmp_path: Path) -> None:
    folder = write_curated(sound, tmp_path / "curated")
    (folder / "items.parquet").unlink()
    with pytest.raises(UserError, match=r"items\.parquet: no such file"):
        measure_tables(folder, TOKENIZER, **MEASURING)


def test_a_file_that_is_not_parquet_is_named(sound: Records, tmp_path: Path) -> None:
    folder = write_curated(sound, tmp_path / "curated")
    (folder / "items.parquet").write_text("PAR")
    with pytest.raises(UserError, match=r"items\.parquet: not a readable Parquet file"):
        measure_tables(folder, TOKENIZER, **MEASURING)


def test_categories_are_counted_by_group_and_an_item_without_a_cluster_is_its_own(
    sound: Records,
) -> None:
    tables = copy.deepcopy(sound)
    for item in tables["items"]:
        item.update(category="facts", cluster="" if item["group"] == "general" else "one")
    frame = measured_frames(tables, TOKENIZER)["categories"]
    assert frame[["id", "location", "items", "clusters"]].to_numpy().tolist() == [
        ["facts", "domain", 10, 1],
        ["facts", "general", 10, 10],
    ]


def test_a_tokenizer_without_chat_template_is_refused() -> None:
    tokenizer = make_tiny_tokenizer()
    tokenizer.chat_template = None
    with pytest.raises(UserError, match=r"no chat template; fetch\.model.chat_template"):
        require_tokenizer(tokenizer, Path("models/base"))


def test_a_short_row_that_differs_by_a_sign_has_no_twin(sound: Records) -> None:
    tables = copy.deepcopy(sound)
    answer = tables["instructions"][1]["messages"][-1]
    for signs, twins in ((("&&", "||"), 0), (("&&", "&&"), 1)):
        for row, sign in zip(tables["instructions"], signs, strict=False):
            asked = f"What does the expression a {sign} b return where a is false, and why so?"
            row["messages"] = [{"role": "user", "content": asked}, answer]
        found = measured_frames(tables, TOKENIZER)["instructions"]["near_duplicate_of"][:2]
        assert sum(bool(twin) for twin in found) == twins
