"""Which concepts of a help desk a text names, in four languages. Knows the word list beside it; knows no categories.

A concept says the same in every language, so what a linear head learns from English tickets also serves the others.
"""

import re
import unicodedata
from functools import lru_cache
from pathlib import Path

WORDS = Path(__file__).with_name("concepts.txt")
WHOLE_WORD_LETTERS = 3  # stems up to this length must be the whole word
COMPOUND_LETTERS, INNER_STEM_LETTERS = 9, 5  # in words from this length, stems from this length may stand inside
_LETTERS = re.compile(r"[a-z0-9]+")
_SPELLED_OUT = str.maketrans({"ä": "ae", "ö": "oe", "ü": "ue"})


def unaccented(text: str) -> str:
    """Lower case without accents: `Rückerstattung` -> `ruckerstattung`."""
    folded = unicodedata.normalize("NFKD", text.casefold())
    return "".join(letter for letter in folded if not unicodedata.combining(letter))


@lru_cache(maxsize=1)
def _tables() -> tuple[dict[str, str], dict[str, dict[str, str]]]:
    """(stem -> concept, first word of a phrase -> {rest of the phrase: concept})."""
    stems: dict[str, str] = {}
    phrases: dict[str, dict[str, str]] = {}
    for line in WORDS.read_text(encoding="utf-8").splitlines():
        concept, colon, words = line.partition(":")
        if line.startswith("#") or not colon:
            continue
        for word in words.split():
            for spelling in {word, word.translate(_SPELLED_OUT)}:
                parts = _LETTERS.findall(unaccented(spelling))
                if len(parts) == 1:
                    stems.setdefault(parts[0], concept)
                else:
                    phrases.setdefault(parts[0], {})[" ".join(parts[1:])] = concept
    return stems, phrases


@lru_cache(maxsize=50_000)
def _of_word(word: str) -> tuple[str, ...]:
    """Concepts whose stems the word begins with or, where it is a long compound, holds; longest stems first come."""
    stems, _ = _tables()
    found, at = [], 0
    while at < len(word):
        inside = at > 0
        for length in range(len(word) - at, INNER_STEM_LETTERS - 1 if inside else 0, -1):
            stem = word[at : at + length]
            if stem in stems and (length > WHOLE_WORD_LETTERS or length == len(word)):
                found.append(stems[stem])
                at += length - 1
                break
        if len(word) < COMPOUND_LETTERS:
            break
        at += 1
    return tuple(found)


def concepts(text: str) -> list[str]:
    """The concepts a text names, in its order; repeated ones stay."""
    _, phrases = _tables()
    words = _LETTERS.findall(unaccented(text))
    found: list[str] = []
    for position, word in enumerate(words):
        rest = phrases.get(word)
        if rest:
            following = " ".join(words[position + 1 : position + 4])
            found += [concept for phrase, concept in rest.items() if following == phrase or following.startswith(f"{phrase} ")]
        found += _of_word(word)
    return found
