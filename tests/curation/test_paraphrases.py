from pathlib import Path

import pytest

from lmadapt.core.errors import UserError
from lmadapt.curation.paraphrases import find_paraphrases
from tests.raw_tables import curate_records, decision, instruction, item, prose, raw_records

PROMPT = "Which weakness lets an attacker read memory behind the end of a buffer?"
REWORDED = "Which weakness lets the attacker read memory behind the buffer end?"
ITEMS = [item("q/1", PROMPT, "over-read"), item("q/2", "Name the capital of Peru.", "Lima")]


def test_a_reworded_question_leaks_the_nearest_item(
    tiny_model: Path,
) -> None:
    texts = [prose(1), REWORDED, "zzz"]
    (leak,) = find_paraphrases(texts, ITEMS, model=str(tiny_model), min_similarity=0.93)
    assert (leak.text, leak.item, leak.part) == (1, "q/1", "question")
    assert leak.words.startswith("cosine 0.9")
    assert leak.words.endswith(f">= 0.93: {PROMPT}")
    assert not list(find_paraphrases(texts, ITEMS, model=str(tiny_model), min_similarity=0.9999))
    assert not list(find_paraphrases(texts, [], model=str(tiny_model), min_similarity=0.5))


def test_the_model_and_the_similarity_decide_what_is_dropped_and_reported(tiny_model: Path) -> None:
    records = raw_records()
    records["evaluation"].append(item("q/reworded", PROMPT, "over-read"))
    records["instructions"].append(instruction("ask/reworded", REWORDED, prose(9, 12)))
    found = {}
    for model, similarity in ((None, 0.93), (str(tiny_model), 0.93), (str(tiny_model), 0.9999)):
        curated = curate_records(records, paraphrase_model=model, paraphrase_similarity=similarity)
        found[model, similarity] = decision(curated, "ask/reworded")["rule"]
        reported = any("instructions" in roles for roles in curated.metrics["leaks"].values())
        assert reported == bool(found[model, similarity])
    assert found == {
        (None, 0.93): "",
        (str(tiny_model), 0.93): "leak",
        (str(tiny_model), 0.9999): "",
    }


def test_a_model_that_cannot_be_loaded_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"curate.paraphrase_model: .*cannot be loaded"):
        list(find_paraphrases(["a"], ITEMS, model=str(tmp_path), min_similarity=0.9))
