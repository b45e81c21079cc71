import unicodedata

import pyarrow as pa

from lmadapt.curation.decisions import RowDecision
from lmadapt.curation.decontamination import LeakFinder
from lmadapt.curation.evaluation_entities import drop_evaluation_entities
from lmadapt.curation.near_duplicates import band_keys
from lmadapt.curation.screening import ScreenedGroup, TrainingRows
from lmadapt.curation.splitting import hold_out
from lmadapt.curation.word_hashes import split_words
from tests.raw_tables import item


def row(role: str, name: str, entity: str) -> RowDecision:
    return RowDecision(
        role=role, source="s", location=name, id=name, entity=entity, category="c", content_hash=""
    )


def test_an_entity_that_is_written_otherwise_is_not_trained_on() -> None:
    names = {"Zürich": unicodedata.normalize("NFD", "Zürich"), "ACME ": "Acme", "a\u00a0b": "A b"}
    for asked, trained in names.items():
        about = row("instructions", "i", trained)
        drop_evaluation_entities([row("evaluation", "e", asked), about])
        assert about.rule == "evaluation_entity"


def test_an_entity_that_is_written_otherwise_is_held_out_whole() -> None:
    corpus = [row("corpus", f"d{n}", name) for n, name in enumerate(["Acme", "ACME ", "acme"])]
    corpus += [row("corpus", "d9", "other")]
    for number, one in enumerate(corpus):
        one.texts = (number,)
    words = split_words(["one two three"] * len(corpus))
    training = TrainingRows()
    training.add(ScreenedGroup(pa.table({}), corpus, words, band_keys(words)))
    hold_out(training, {"OTHER"}, fraction=0.5, min_jaccard=0.8, seed=0)
    assert [one.split for one in corpus] == ["heldout_text"] * 3 + [""]


def test_a_prompt_of_three_words_is_a_leak_only_as_a_whole_text() -> None:
    finder = LeakFinder([item("i", "How are you?", "Well")], ngram_words=13, in_corpus=False)
    texts = split_words(["how are YOU", "Hello, how are you today?"])
    assert [leak.text for leak in finder.find(texts)] == [0]
