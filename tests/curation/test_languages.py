from lmadapt.curation.languages import find_languages, language_problem


def test_languages_are_found_offline() -> None:
    texts = [
        "This is an English sentence about programs and their weaknesses.",
        "Dies ist ein deutscher Satz über Programme und ihre Schwächen.",
        "这是一段关于程序弱点的中文文字。",
        "12345 ...",
    ]
    assert [language for language, _ in find_languages(texts)] == ["en", "de", "zh", "und"]


def test_a_text_with_letters_must_be_in_an_allowed_language_with_confidence() -> None:
    assert language_problem(("en", 0.9), ["en"], 0.65) is None
    assert language_problem(("und", 0.0), ["en"], 0.65) is None
    assert language_problem(("en", 0.5), ["en"], 0.65) == (
        "language",
        "en with confidence 0.50; allowed: en from 0.65 on",
    )
    assert language_problem(("de", 0.9), ["en"], 0.65) is not None
