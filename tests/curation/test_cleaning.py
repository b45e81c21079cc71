import pytest
from ftfy.badness import MOJIBAKE_CATEGORIES, is_bad
from hypothesis import given, settings
from hypothesis import strategies as st

from lmadapt.curation.cleaning import DOUBTFUL, clean


@pytest.mark.parametrize(
    ("raw", "kept", "rule"),
    [
        ("schÃ¶n", "schön", "mojibake"),
        ("nul\x00 and \x1b[31mred\x1b[0m bell\x07", "nul and red bell", "control_characters"),
        ("two\r\nlines\rthree", "two\nlines\nthree", "control_characters"),
        ("cafe\u0301", "café", "unicode_nfc"),
        ("  around \n", "around", "surrounding_space"),
    ],
)
def test_each_rule_repairs_and_is_named(raw: str, kept: str, rule: str) -> None:
    text, named, evidence = clean(raw)
    assert (text, named) == (kept, rule)
    assert evidence.startswith(f"{rule}: ")


@pytest.mark.parametrize(
    "text", ["plain", "“curly” &lt;b&gt; ﬁ \uff21", "tab\tand\nline", "שלום नमस्ते 漢字", ""]
)
def test_sound_text_does_not_change(text: str) -> None:
    assert clean(text) == (text, "", "")


def test_the_first_of_several_rules_is_named_and_all_are_in_the_evidence() -> None:
    text, rule, evidence = clean(" schÃ¶n\x00")
    assert (text, rule) == ("schön", "mojibake")
    assert [part.split(":")[0] for part in evidence.split("; ")] == [
        "mojibake",
        "control_characters",
        "surrounding_space",
    ]
    assert "'Ã¶n\\x00' became 'ön\\x00'" in evidence


def test_cleaning_twice_changes_nothing_more() -> None:
    once = clean(" schÃ¶n\r\n\x00cafe\u0301 ")[0]
    assert clean(once) == (once, "", "")


@settings(deadline=None, max_examples=300)
@given(st.text(st.characters(exclude_categories=("Cs",)), max_size=60))
def test_a_second_cleaning_changes_no_text(text: str) -> None:
    once = clean(text)[0]
    assert clean(once)[0] == once


@settings(deadline=None, max_examples=500)
@given(
    st.text(
        st.sampled_from([*"".join(MOJIBAKE_CATEGORIES.values()), *"ÂÃŒœГўВЂ aZ.\n"]), max_size=6
    )
)
def test_every_text_that_ftfy_calls_bad_is_searched(text: str) -> None:
    assert DOUBTFUL.search(text) or not is_bad(text)


def test_a_line_that_only_looks_bad_without_its_leading_space_is_repaired() -> None:
    assert clean(" Ã\u00a0 la carte\nplain")[0] == clean("Ã\u00a0 la carte\nplain")[0]
    assert clean("\n  plain\nschÃ¶n ")[0] == "plain\nschön"
