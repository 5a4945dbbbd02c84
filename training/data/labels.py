"""Which type each ticket has: one spelling per type, out of scope apart, rare types folded, contradictions settled. Knows no model."""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from orchestrator.domain.triage import OTHERS


@dataclass(frozen=True, kw_only=True)
class Labels:
    """One label per row, or None for a row without one."""

    names: tuple[str | None, ...]
    merged: Mapping[str, str]  # spelling -> the one that is used


def read_labels(categories: Sequence[str | None], *, others_label: str) -> Labels:
    """One spelling per type: the commonest of those that differ in case and spaces only. Out of scope becomes OTHERS."""
    plain = [" ".join(name.split()) if name else "" for name in categories]
    outside = {others_label.strip().casefold(), OTHERS.casefold()}
    spellings: dict[str, Counter[str]] = defaultdict(Counter)
    for name in plain:
        spellings[name.casefold()][name] += 1
    used = {folded: min(found, key=lambda name: (-found[name], name)) for folded, found in spellings.items()}
    used |= dict.fromkeys(outside, OTHERS)
    return Labels(
        names=tuple(used[name.casefold()] or None for name in plain),
        merged={
            name: used[folded]
            for folded, found in sorted(spellings.items())
            for name in sorted(found)
            if folded not in outside and name != used[folded]
        },
    )


def fold_rare(names: Sequence[str], *, least: int) -> tuple[list[str], dict[str, int]]:
    """(labels in which types with fewer than `least` tickets are OTHERS, those types with their counts)."""
    counts = Counter(names)
    rare = {name: count for name, count in sorted(counts.items()) if count < least and name != OTHERS}
    return [OTHERS if name in rare else name for name in names], rare


@dataclass(frozen=True, kw_only=True)
class Settled:
    """What remains of exact duplicates."""

    kept: list[int]  # positions, ascending
    label: Mapping[int, str]  # of a kept position whose label was outvoted
    repeats: int  # tickets dropped because a kept one has the same text
    contradicting: int  # texts with more than one label
    undecided: int  # tickets dropped because no label of their text has a majority


def settle_duplicates(texts: Sequence[str], names: Sequence[str], age: Sequence[float]) -> Settled:
    """Of tickets with one text the oldest is kept, with the label that more than half of them have; without one all are dropped."""
    groups: dict[str, list[int]] = defaultdict(list)
    for index, text in enumerate(texts):
        groups[" ".join(text.casefold().split())].append(index)
    kept, label = [], {}
    repeats = contradicting = undecided = 0
    for members in groups.values():
        counts = Counter(names[index] for index in members)
        name, votes = counts.most_common(1)[0]
        contradicting += len(counts) > 1
        if 2 * votes <= len(members):
            undecided += len(members)
            continue
        oldest = min(members, key=lambda index: (age[index], index))
        kept.append(oldest)
        repeats += len(members) - 1
        if names[oldest] != name:
            label[oldest] = name
    return Settled(kept=sorted(kept), label=label, repeats=repeats, contradicting=contradicting, undecided=undecided)
