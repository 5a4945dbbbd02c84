"""Languages: which one a text is in, by its script and its commonest words, and how many tickets are not in English. No model."""

import re
from collections import Counter
from collections.abc import Mapping
from types import MappingProxyType

from training.readiness.export import Export
from training.readiness.limits import found
from training.readiness.records import Example, Measure

SEARCHED_CHARS = 1_500
UNKNOWN = "?"  # too short or no common word
SCRIPTS: Mapping[str, re.Pattern[str]] = MappingProxyType(
    {
        "ja": re.compile(r"[\u3040-\u30ff]"),
        "ko": re.compile(r"[\uac00-\ud7af]"),
        "zh": re.compile(r"[\u3400-\u9fff]"),
        "ru": re.compile(r"[\u0400-\u04ff]"),
        "el": re.compile(r"[\u0370-\u03ff]"),
        "ar": re.compile(r"[\u0600-\u06ff]"),
        "he": re.compile(r"[\u0590-\u05ff]"),
        "hi": re.compile(r"[\u0900-\u097f]"),
        "th": re.compile(r"[\u0e00-\u0e7f]"),
    }
)
_COMMON = {
    "en": "the and to is of in for with my not on that have this it you are was be can from when please what how do at your we "
    "has unable need does by as am user an or but if out get there",
    "de": "der die das und ist nicht ich zu mit den ein eine auf für von es wir sich bitte werden haben im kann dem auch bei "
    "wie nach",
    "fr": "le la les et est pas je de des un une que pour dans nous vous avec sur ce mon plus votre été sont bonjour qui ne du au",
    "es": "el la los las es que de un una por para con en mi se lo su al del está como pero más usted cuando hola puedo",
    "pt": "os não que um uma por para em meu na ao você está mais como mas quando olá estou são muito obrigado isso foi ou já "
    "também pelo favor minha dos das",
    "it": "il lo la gli non che di un una per con in mio si del della al sono come ma più quando ho questo grazie nel alla",
    "nl": "de het een en is niet ik te van met op voor dat wij zijn kan naar er maar mijn bij aan als ook deze heb om wordt",
    "pl": "nie na się jest to że jak po tak za od dla mam proszę czy przez ale był są mogę mój już",
    "sv": "och att det är inte jag på som för med har till av den ett om kan vi men så från var när",
    "tr": "ve bir bu için ile de da ne çok daha olarak ama var yok ben biz değil lütfen nasıl gibi",
}
COMMON: Mapping[str, frozenset[str]] = MappingProxyType({code: frozenset(words.split()) for code, words in _COMMON.items()})
_WORD = re.compile(r"[^\W\d_]+")


def language_of(text: str) -> str:
    """ISO 639-1 code, or `?` where the text gives no ground. Short texts are guessed from few words."""
    searched = text[:SEARCHED_CHARS]
    letters = sum(char.isalpha() for char in searched)
    for code, pattern in SCRIPTS.items():
        if len(pattern.findall(searched)) > 0.2 * letters:
            return code
    words = [word.casefold() for word in _WORD.findall(searched)]
    hits = Counter({code: sum(word in common for word in words) for code, common in COMMON.items()})
    (best, most), (_, second) = hits.most_common(2)
    enough = most > second and (best == "en" or (most > 1 and most >= 0.1 * len(words)))
    return best if enough else UNKNOWN


def measure_languages(export: Export) -> tuple[Measure, tuple[str, ...]]:
    """The measure, and the language of every ticket."""
    codes = tuple(language_of(text) for text in export.texts)
    counts = Counter(codes)
    known = len(codes) - counts[UNKNOWN]
    other = known - counts["en"]
    share = other / known if known else 0.0
    listed = ", ".join(f"{code} {count / len(codes):.1%}" for code, count in counts.most_common(6) if code != UNKNOWN)
    examples = [
        Example(rows=tuple([i for i, code in enumerate(codes) if code == language][:2]), note=language)
        for language, _ in counts.most_common(5)
        if language not in {"en", UNKNOWN}
    ]
    measure = found(
        "languages", share,
        f"By their commonest words: {listed or 'no language told'}; {counts[UNKNOWN] / len(codes):.1%} too short to tell.",
        "Configure a multilingual sentence encoder, or tune one on these tickets (`cloister train embedder`); compare per language.",
        affected=share,
        examples=examples,
        details={"counts": dict(counts.most_common())},
    )  # fmt: skip
    return measure, codes
