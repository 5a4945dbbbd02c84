"""Guess the language of a ticket from its script and its commonest words. No model; short texts are guessed from few words."""
# ruff: noqa: E501 (the tables read better as long lines)

import re
from collections import Counter
from collections.abc import Mapping
from types import MappingProxyType

SEARCHED_CHARS = 1_500
UNKNOWN = "?"  # no common word, or two languages alike
SCRIPTS: Mapping[str, re.Pattern[str]] = MappingProxyType(
    {
        "ja": re.compile(r"[\u3040-\u30ff]"),
        "ko": re.compile(r"[\uac00-\ud7af]"),
        "zh": re.compile(r"[\u3400-\u9fff]"),
        "uk": re.compile(r"[іїєґІЇЄҐ]"),
        "ru": re.compile(r"[\u0400-\u04ff]"),
        "el": re.compile(r"[\u0370-\u03ff]"),
        "ar": re.compile(r"[\u0600-\u06ff]"),
        "he": re.compile(r"[\u0590-\u05ff]"),
        "hi": re.compile(r"[\u0900-\u097f]"),
        "th": re.compile(r"[\u0e00-\u0e7f]"),
    }
)
SCRIPT_SHARE: Mapping[str, float] = MappingProxyType({"uk": 0.03})  # of the letters; the others need 0.2
_WORDS = {
    "en": "the and to is of in for with my not on that have this it you are was be can from when please what how do at your we has unable need does"
    " by as am user an or but if out get there i me why would will could been which since after any all still does's don't can't i'm i've",
    "de": "der die das und ist nicht ich zu mit den ein eine auf für von es wir sich bitte werden haben im kann dem auch bei wie nach mein meine"
    " wurde seit noch beim wird sie ihr keine einen einem sind habe hat aber oder wenn zum zur mir uns über kein",
    "fr": "le la les et est pas je de des un une que pour dans nous vous avec sur ce mon plus votre été sont bonjour qui ne du au j'ai c'est l'accès"
    " mais ou depuis comment merci cette notre aux être peut n'est ma mes",
    "es": "el la los las es que de un una por para con en mi se lo su al del está como pero más usted cuando hola puedo no y mis ha desde este esta"
    " qué cómo nos gracias sin tengo estamos sobre",
    "pt": "os não que um uma por para em meu minha na ao você está mais como mas quando olá estou são muito obrigado isso foi ou já também pelo favor"
    " dos das do da no com se é nosso",
    "it": "il lo la gli è non che di un una per con in mio si del della al sono come ma più quando ho questo grazie nel alla abbiamo",
    "nl": "de het een en is niet ik te van met op voor dat wij zijn kan naar er maar mijn bij aan als ook deze heb om wordt u geen we nog",
    "pl": "nie na się jest to że o jak po tak za od dla mam proszę czy przez ale był są mogę mój już",
    "sv": "och att det är inte jag på som för med har till av den ett om kan vi men så från var när",
    "da": "og at det er ikke jeg på som for med har til af den et om kan vi men så fra var når mig",
    "tr": "ve bir bu için ile de da ne çok daha olarak ama var yok ben biz değil lütfen nasıl gibi",
    "cs": "že jsem není jak pro ale nebo když už při prosím děkuji mám jsme který je se na",
}
WORDS: Mapping[str, frozenset[str]] = MappingProxyType({code: frozenset(words.split()) for code, words in _WORDS.items()})
LETTERS: Mapping[str, frozenset[str]] = MappingProxyType(  # a letter that few others of these languages have counts as half a word
    {
        "de": frozenset("äöüß"), "fr": frozenset("èêçœàù"), "es": frozenset("ñ¿¡"), "pt": frozenset("ãõ"), "it": frozenset("ò"),
        "pl": frozenset("łśżźęą"), "sv": frozenset("å"), "da": frozenset("æø"), "tr": frozenset("ğış"), "cs": frozenset("řůě"),
    }
)  # fmt: skip
_WORD = re.compile(r"[^\W\d_]+(?:['’][^\W\d_]+)?")
_PLACEHOLDER = re.compile(r"<[A-Z_]+_\d+>")


def language_of(text: str) -> str:
    """ISO 639-1 code, or `UNKNOWN` where the text gives no ground."""
    searched = _PLACEHOLDER.sub(" ", text[:SEARCHED_CHARS])
    letters = sum(char.isalpha() for char in searched)
    if not searched.isascii():
        for code, pattern in SCRIPTS.items():
            if len(pattern.findall(searched)) > SCRIPT_SHARE.get(code, 0.2) * letters:
                return code
    words = Counter(word.casefold().replace("’", "'") for word in _WORD.findall(searched))
    hits = {code: float(sum(count for word, count in words.items() if word in common)) for code, common in WORDS.items()}
    if not searched.isascii():
        for code, own in LETTERS.items():
            hits[code] += 0.5 * sum(searched.count(letter) for letter in own)
    (best, most), (_, second) = sorted(hits.items(), key=lambda item: -item[1])[:2]
    return best if most > second else UNKNOWN
