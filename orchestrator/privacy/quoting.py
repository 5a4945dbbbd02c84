"""Does a text quote another one? Compares words, deaf to case, punctuation and spacing. Knows no document and no ticket.

For policies that may be summarized and never quoted: an outgoing text is held against them before it leaves.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

QUOTE_WORDS = 8  # in a row; shorter runs are how anybody would say it
PIECE_WORDS = 4
PIECES_SHARE = 0.4  # of a source's runs of PIECE_WORDS: quoted in pieces
_WORD = re.compile(r"[^\W_]+")


@dataclass(frozen=True, kw_only=True)
class Quote:
    """What was found in both."""

    words: str  # the first run, as the source's words
    length: int  # words in a row, or in pieces all together


def quoted(text: str, sources: Iterable[str], *, at_least: int = QUOTE_WORDS) -> Quote | None:
    """The first quotation of one of the sources: `at_least` of its words in a row, or much of it in pieces. None: there is none."""
    spoken = words_of(text)
    rows, pieces = _runs(spoken, at_least), _runs(spoken, PIECE_WORDS)
    for source in sources:
        written = words_of(source)
        for start in range(len(written) - at_least + 1):
            if tuple(written[start : start + at_least]) in rows:
                return Quote(words=" ".join(written[start : start + at_least]), length=at_least)
        if found := _in_pieces(written, pieces, at_least):
            return found
    return None


def words_of(text: str) -> list[str]:
    return _WORD.findall(text.casefold())


def _runs(words: Sequence[str], length: int) -> frozenset[tuple[str, ...]]:
    return frozenset(tuple(words[start : start + length]) for start in range(len(words) - length + 1))


def _in_pieces(written: Sequence[str], pieces: frozenset[tuple[str, ...]], at_least: int) -> Quote | None:
    mine = [tuple(written[start : start + PIECE_WORDS]) for start in range(len(written) - PIECE_WORDS + 1)]
    common = [piece for piece in mine if piece in pieces]
    if len(written) < 2 * at_least or len(common) < PIECES_SHARE * len(mine):
        return None
    return Quote(words=" ".join(common[0]), length=len(common) + PIECE_WORDS - 1)
