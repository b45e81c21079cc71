import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lmadapt.curation.decontamination import MAX_CLUSTERS, Leak, LeakFinder
from lmadapt.curation.word_hashes import split_words
from tests.raw_tables import item, prose

LONG = (
    "Which weakness lets an attacker of the system read every file outside of the web root folder"
)
ANSWER = "Canonicalise the path and check that it still begins with the one folder that is allowed"
SHORT = "What is the capital of France?"


def leaks(
    text: str, *items: dict[str, object], ngram_words: int = 13, in_corpus: bool = False
) -> list[Leak]:
    return LeakFinder(items, ngram_words=ngram_words, in_corpus=in_corpus).find(split_words([text]))


def test_a_shared_run_of_the_question_is_a_leak_with_its_words_as_evidence() -> None:
    (leak,) = leaks(
        f"Intro. {LONG[:75].upper()}... something else", item("i", LONG, "Path traversal")
    )
    assert (leak.text, leak.item) == (0, "i")
    assert leak.words == "which weakness lets an attacker of the system read every file outside of"


def test_a_shared_run_of_the_answer_is_a_leak() -> None:
    assert leaks(f"Remember to {ANSWER.lower()}, always.", item("i", "Which mitigation?", ANSWER))


def test_a_run_that_is_one_word_short_is_no_leak() -> None:
    words = LONG.split()
    assert leaks(" ".join(words[:13]), item("i", LONG, "x"))
    assert not leaks(" ".join([*words[:12], "but", *words[13:]])[:90], item("i", LONG, "x"))


@pytest.mark.parametrize(("ngram_words", "found"), [(6, True), (8, True), (13, False)])
def test_the_length_of_the_run_is_a_setting(ngram_words: int, found: bool) -> None:
    assert (
        bool(leaks(" ".join(LONG.split()[2:10]), item("i", LONG, "x"), ngram_words=ngram_words))
        is found
    )


def test_a_whole_short_prompt_is_a_leak_at_word_boundaries_only() -> None:
    paris = item("i", SHORT, "Paris")
    assert leaks("Quiz: what is the capital of france, and of Spain?", paris)
    assert not leaks("Now what is the capital of Francea?", paris)
    assert not leaks("What is the capital?", paris)


def test_a_short_answer_alone_is_no_leak() -> None:
    assert not leaks("We met in Paris.", item("i", SHORT, "Paris"))
    assert not leaks("Paris", item("i", SHORT, "Paris"))


def test_a_very_short_prompt_counts_only_as_a_whole_text() -> None:
    hello = item("i", "Hi there", "Hello")
    assert leaks("hi there!", hello)
    assert not leaks("And hi there to all of you", hello)


def test_the_corpus_may_quote_domain_items_but_not_hold_their_whole_prompt() -> None:
    domain, general = item("d", f"{LONG}?", ANSWER), item("g", f"{LONG}?", ANSWER, "general")
    quoted = " ".join(LONG.split()[1:]) + " " + ANSWER
    assert not leaks(quoted, domain, in_corpus=True)
    assert leaks(f"Exam: {LONG}?", domain, in_corpus=True)[0].words.endswith("web root folder")
    assert leaks(quoted, general, in_corpus=True)
    assert leaks(quoted, domain, in_corpus=False)


def test_a_template_of_many_items_is_no_leak_but_what_they_ask_is() -> None:
    template = (
        "Read the following description of a weakness carefully "
        "and then choose the one name that fits"
    )
    items = [
        item(f"i{n}", f"{template}: {prose(n, 20)}", "x", cluster=f"c{n}")
        for n in range(MAX_CLUSTERS + 1)
    ]
    assert not leaks(f"{template}: {prose(77, 20)}", *items)
    assert leaks(f"{template}: {prose(3, 20)}", *items)[0].item == "i3"
    assert leaks(f"{template}: {prose(77, 20)}", *items[:2])


def test_each_part_of_an_item_is_reported_once_a_text() -> None:
    items = [item("a", SHORT, "x"), item("b", LONG, "x")]
    found = LeakFinder(items, ngram_words=13, in_corpus=False).find(
        split_words(["", SHORT, LONG, SHORT + LONG])
    )
    assert [(leak.text, leak.item) for leak in found] == [(1, "a"), (2, "b"), (3, "a"), (3, "b")]
    assert LeakFinder([], ngram_words=13, in_corpus=False).find(split_words(["text"])) == []


def test_a_leak_says_whether_it_is_the_question_or_the_answer() -> None:
    found = leaks(f"{LONG}? {ANSWER}.", item("i", LONG, ANSWER))
    assert [(leak.part, leak.words.split()[0]) for leak in found] == [
        ("answer", "canonicalise"),
        ("question", "which"),
    ]


@settings(deadline=None, max_examples=60)
@given(
    st.lists(st.sampled_from("abcd"), min_size=13, max_size=40),
    st.integers(0, 5),
    st.integers(0, 5),
)
def test_every_verbatim_copy_of_a_long_prompt_is_found(
    words: list[str], before: int, after: int
) -> None:
    text = " ".join([*["x"] * before, *words, *["y"] * after])
    assert [leak.item for leak in leaks(text, item("i", " ".join(words), "short"))] == ["i"]
