import pytest

from lmadapt.curation.cleaning import clean


@pytest.mark.parametrize("character", ["\v", "\f", "\x1c", "\x1d", "\x1e", "\u2028", "\r"])
def test_old_line_breaks_part_words(character: str) -> None:
    text, rule, _ = clean(f"Title{character}Subtitle")
    assert (text, rule) == ("Title\nSubtitle", "control_characters")
