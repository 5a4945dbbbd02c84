"""Rows that an adapter is fitted on, and their tokens. Knows prompts and tokenizers; knows no torch and no tickets.

A prompt is `prefix + suffix`; rows with the same prefix share its tokens. What serving tokenizes is the whole prompt, so
the seam is checked: where a tokenizer would join letters across it, whole prompts are tokenized and the tokens that all
rows of a prefix share become the prefix.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from orchestrator.domain.errors import BadInput, ConfigurationError

SEAMS_CHECKED = 8  # rows per prefix whose seam is looked at
MAX_OPTIONS = 128  # the engine gives at most so many log-probabilities


@dataclass(frozen=True, kw_only=True, slots=True)
class ChoiceRow:
    """One closed choice: the prompt ends where the code of an option would come."""

    prefix: str  # what this row shares with others
    suffix: str
    options: tuple[str, ...]  # codes, each a single token
    target: int = -1  # index of the right option; -1 where it is not known, which only scoring takes
    weight: float = 1.0


Rows = Callable[[int], Sequence[ChoiceRow]]
"""The rows of a pass, by its number from 0. The same number must always give the same rows: a resumed run asks again."""


@dataclass(frozen=True, kw_only=True, slots=True)
class TokenRow:
    """A row as numbers. `options`: columns of the code table."""

    prefix: tuple[int, ...]  # the same object in all rows that share it
    suffix: tuple[int, ...]
    options: tuple[int, ...]
    target: int
    weight: float


class Reader:
    """Turns rows into tokens with a base's tokenizer, as serving does (special tokens included)."""

    def __init__(self, tokenizer: Any, *, max_tokens: int) -> None:
        self.tokenizer, self.max_tokens = tokenizer, max_tokens
        self.codes: list[str] = []  # the code table, in order of appearance
        self.code_ids: list[int] = []  # their tokens
        self._columns: dict[tuple[str, ...], tuple[int, ...]] = {}
        self._prefixes: dict[str, tuple[int, ...]] = {}
        self._clean: dict[str, bool] = {}

    def read(self, rows: Sequence[ChoiceRow], *, with_targets: bool = True) -> list[TokenRow]:
        """Tokens of all rows, in order. Raises BadInput naming the row, ConfigurationError for codes that are not one token."""
        self._check(rows, with_targets=with_targets)
        shared, own = self._tokenize(rows)
        for number, (prefix, suffix) in enumerate(zip(shared, own, strict=True)):
            if not suffix or len(prefix) + len(suffix) > self.max_tokens:
                raise BadInput(
                    f"Row {number} has {len(prefix)} + {len(suffix)} tokens; a prompt must end with tokens of its own and have at most"
                    f" {self.max_tokens}.",
                    hint="Shorten the ticket's window or take fewer candidates.",
                )
        return [
            TokenRow(prefix=prefix, suffix=tuple(suffix), options=self._columns[row.options], target=row.target, weight=row.weight)
            for row, prefix, suffix in zip(rows, shared, own, strict=True)
        ]

    def know(self, codes: Sequence[str]) -> None:
        """Enter codes in this order: a resumed fit has the code table of the interrupted one."""
        self._add([code for code in codes if code not in self.codes])

    def _check(self, rows: Sequence[ChoiceRow], *, with_targets: bool) -> None:
        for number, row in enumerate(rows):
            if row.options not in self._columns:
                self._columns[row.options] = self._enter(row.options)
            if with_targets and not 0 <= row.target < len(row.options):
                raise BadInput(f"Row {number} has target {row.target}, must be 0..{len(row.options) - 1}.")
            if not row.weight >= 0:
                raise BadInput(f"Row {number} has weight {row.weight}, must be at least 0.")

    def _enter(self, options: tuple[str, ...]) -> tuple[int, ...]:
        if not 2 <= len(options) <= MAX_OPTIONS or len(set(options)) != len(options):
            raise BadInput(
                f"A row has {len(options)} options {options[:4]}..., must be 2..{MAX_OPTIONS} different ones.",
                hint="Score the best candidates only.",
            )
        self._add([code for code in options if code not in self.codes])
        return tuple(self.codes.index(code) for code in options)

    def _add(self, new: Sequence[str]) -> None:
        ids = [self.tokenizer.encode(code, add_special_tokens=False) for code in new]
        wrong = [code for code, found in zip(new, ids, strict=True) if len(found) != 1 or found[0] == self.tokenizer.unk_token_id]
        if wrong:
            raise ConfigurationError(
                f"The codes {', '.join(map(repr, wrong))} are not one token each in the base's tokenizer, so they cannot be scored.",
                hint="Use letters and digits as codes.",
            )
        self.codes += new
        self.code_ids += [found[0] for found in ids]

    def _tokenize(self, rows: Sequence[ChoiceRow]) -> tuple[list[tuple[int, ...]], list[list[int]]]:
        by_prefix: dict[str, list[int]] = {}
        for number, row in enumerate(rows):
            by_prefix.setdefault(row.prefix, []).append(number)
        shared: list[tuple[int, ...]] = [()] * len(rows)
        own: list[list[int]] = [[]] * len(rows)
        for prefix, numbers in by_prefix.items():
            head, tails = self._behind(prefix, [rows[number].suffix for number in numbers])
            for number, tail in zip(numbers, tails, strict=True):
                shared[number], own[number] = head, tail
        return shared, own

    def _behind(self, prefix: str, suffixes: Sequence[str]) -> tuple[tuple[int, ...], list[list[int]]]:
        """Tokens of a prefix and of what follows it, such that together they are the tokens of the whole prompt."""
        if prefix not in self._prefixes:
            self._prefixes[prefix] = tuple(self.tokenizer(prefix)["input_ids"]) if prefix else ()
        head = self._prefixes[prefix]
        if prefix and self._is_clean(prefix, suffixes):
            return head, self.tokenizer(list(suffixes), add_special_tokens=False)["input_ids"]
        whole: list[list[int]] = self.tokenizer([prefix + suffix for suffix in suffixes])["input_ids"]
        common = min(min(_common(head, ids), len(ids) - 1) for ids in whole)
        return head[:common], [ids[common:] for ids in whole]

    def _is_clean(self, prefix: str, suffixes: Sequence[str]) -> bool:
        if prefix not in self._clean:
            some = list(suffixes[:SEAMS_CHECKED])
            apart = self.tokenizer(some, add_special_tokens=False)["input_ids"]
            whole = self.tokenizer([prefix + suffix for suffix in some])["input_ids"]
            self._clean[prefix] = all([*self._prefixes[prefix], *a] == w for a, w in zip(apart, whole, strict=True))
        return self._clean[prefix]


def _common(one: Sequence[int], other: Sequence[int]) -> int:
    """How many numbers at their start are the same."""
    return next((place for place, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))
