"""What only two articles together show: contradictions, near-copies, two sources of truth. Knows sentences and sections; no meaning
beyond shared words.

Two statements are of the same thing where their words, each weighed by how rare it is among all statements, are mostly the same. Only
articles for the same readers are compared: language, regions and plans.
"""

import math
import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations

from orchestrator.knowledge.front_matter import About
from orchestrator.knowledge.lint.alone import LINK, short, topics
from orchestrator.knowledge.lint.articles import Article
from orchestrator.knowledge.lint.findings import Finding, finding
from orchestrator.knowledge.lint.quantities import Quantity, content, decides, denies, quantities

SAME_THING = 0.62  # of the weight of all their words that two statements share
SAME_DENIAL = 0.8  # where the one says not: only nearly the same words are the same thing
MIN_SHARED = 2  # words; of two words alone a title has to say the rest
SAME_WORDS = 3
LOOSE = frozenset({"time", "times"})  # "wait two minutes", "press OK twice": steps, which differ for good reason
MOSTLY_LINK = 0.6  # of a sentence: it names another text and says nothing itself
COMMON = 200  # statements that share a word: such a word alone brings nobody together
COPY = 0.8  # of three-word runs that two sections share
MIN_COPY_WORDS = 25
COMMON_RUN = 40  # sections that share a run: boilerplate


@dataclass(frozen=True, kw_only=True)
class Statement:
    article: Article
    line: int
    text: str
    words: frozenset[str]
    amounts: tuple[Quantity, ...]
    denies: bool
    decides: bool


def together(articles: Sequence[Article]) -> Iterator[Finding]:
    """Every finding between two articles."""
    yield from _two_sources(articles)
    disagreeing: set[tuple[str, str]] = set()
    for found in _copies(articles):
        if found.rule == "duplicate-disagrees":
            disagreeing.add((found.file, found.other.rpartition(":")[0]))
        yield found
    for found in _contradictions(articles):
        if (found.file, found.other.rpartition(":")[0]) not in disagreeing:
            yield found


def same_readers(one: About, other: About) -> bool:
    def meet(left: tuple[str, ...], right: tuple[str, ...]) -> bool:
        return not left or not right or bool(set(left) & set(right))

    replaced = one.id in other.supersedes or other.id in one.supersedes
    return not replaced and meet(one.regions, other.regions) and meet(one.plans, other.plans) and meet(one.groups, other.groups)


def _two_sources(articles: Sequence[Article]) -> Iterator[Finding]:
    policies = [
        (article, topic) for article in articles if article.about.authority == "policy" for topic in sorted(topics(article))
    ]
    for (one, topic), (other, also) in combinations(policies, 2):
        alike = one.about.audience == other.about.audience and one.about.language == other.about.language
        if topic == also and alike and same_readers(one.about, other.about):
            yield finding("two-sources", other.file, 1, f"also decides on {topic}, as {one.file} does", other=f"{one.file}:1")


# --- contradictions ---


def statements(article: Article) -> Iterator[Statement]:
    """Sentences that give a value or decide something."""
    for sentence in article.sentences:
        if sum(len(link[0]) for link in LINK.finditer(sentence.text)) > MOSTLY_LINK * len(sentence.text):
            continue
        amounts = quantities(sentence.text)
        deciding = decides(sentence.text)
        if not amounts and not deciding:
            continue
        words = content(sentence.text)
        if len(words) < MIN_SHARED:
            continue
        yield Statement(
            article=article,
            line=sentence.line,
            text=sentence.text,
            words=words,
            amounts=amounts,
            denies=denies(sentence.text),
            decides=deciding,
        )


def _contradictions(articles: Sequence[Article]) -> Iterator[Finding]:
    said = [statement for article in articles for statement in statements(article)]
    often = Counter(word for statement in said for word in statement.words)
    weight = {word: math.log(1 + len(said) / count) for word, count in often.items()}
    told: set[tuple[str, str, str]] = set()
    for one, other in _pairs(said, often):
        if not same_readers(one.article.about, other.article.about) or not _same_subject(one, other):
            continue
        alike = _alike(one.words, other.words, weight)
        why = _differ(one, other) if alike >= SAME_THING else ""
        if not why and alike >= SAME_DENIAL and one.denies != other.denies and one.decides and other.decides:
            why = "one of them says not"
        key = (one.article.file, other.article.file, why)
        if why and key not in told:
            told.add(key)
            message = f"{why}: “{short(other.text)}” / “{short(one.text)}”"
            yield finding("contradiction", other.article.file, other.line, message, other=f"{one.article.file}:{one.line}")


def _pairs(said: Sequence[Statement], often: Counter[str]) -> Iterator[tuple[Statement, Statement]]:
    """Statements of different articles that share at least two words, one of them not common to everybody."""
    by_word: dict[str, list[int]] = defaultdict(list)
    for place, statement in enumerate(said):
        for word in statement.words:
            if often[word] <= COMMON:
                by_word[word].append(place)
    seen: set[tuple[int, int]] = set()
    for places in by_word.values():
        for pair in combinations(places, 2):
            if pair in seen:
                continue
            seen.add(pair)
            one, other = said[pair[0]], said[pair[1]]
            if one.article is not other.article and len(one.words & other.words) >= MIN_SHARED:
                yield one, other


def _alike(one: frozenset[str], other: frozenset[str], weight: dict[str, float]) -> float:
    return sum(weight[word] for word in one & other) / sum(weight[word] for word in one | other)


def _same_subject(one: Statement, other: Statement) -> bool:
    """Enough words in common, or the titles have one in common as well; and not two versions of something, numbered in the titles."""
    left, right = one.article.about.title, other.article.about.title
    if set(re.findall(r"\d+", left)) != set(re.findall(r"\d+", right)) and content(left) == content(right):
        return False
    if len(one.words & other.words) >= SAME_WORDS or content(left) & content(right):
        return True
    return one.words == other.words and not {amount.measures for amount in one.amounts} & LOOSE


def _differ(one: Statement, other: Statement) -> str:
    """Which values of the same kind differ, where each of them gives such values and no common one."""
    for kind in sorted({amount.measures for amount in one.amounts} & {amount.measures for amount in other.amounts}):
        mine = {amount.value: amount.written for amount in one.amounts if amount.measures == kind}
        theirs = {amount.value: amount.written for amount in other.amounts if amount.measures == kind}
        if not set(mine) & set(theirs):
            return f"{' and '.join(theirs.values())} or {' and '.join(mine.values())}?"
    return ""


# --- near-copies ---


def _copies(articles: Sequence[Article]) -> Iterator[Finding]:
    parts = [
        (article, section.line, section.heading or article.about.title, section.text)
        for article in articles
        for section in article.sections
        if len(section.text.split()) >= MIN_COPY_WORDS
    ]
    runs = [_runs(text) for *_, text in parts]
    shared: Counter[tuple[int, int]] = Counter()
    by_run: dict[int, list[int]] = defaultdict(list)
    for place, mine in enumerate(runs):
        for run in mine:
            by_run[run].append(place)
    for places in by_run.values():
        if 1 < len(places) <= COMMON_RUN:
            shared.update(combinations(places, 2))
    told: set[tuple[str, str]] = set()
    for (one, other), count in sorted(shared.items()):
        left, right = parts[one], parts[other]
        pair = (left[0].file, right[0].file)
        if left[0] is right[0] or pair in told or count < COPY * (len(runs[one]) + len(runs[other]) - count):
            continue
        if not same_readers(left[0].about, right[0].about):
            continue
        told.add(pair)
        numbered = set(re.findall(r"\d+", left[0].about.title)) ^ set(re.findall(r"\d+", right[0].about.title))
        differ = not numbered and (_numbers(left[3]) != _numbers(right[3]) or denies(left[3]) != denies(right[3]))
        rule = "duplicate-disagrees" if differ else "duplicate"
        yield finding(
            rule, right[0].file, right[1], f"“{right[2]}” also stands in {left[0].file}", other=f"{left[0].file}:{left[1]}"
        )


def _runs(text: str) -> frozenset[int]:
    words = re.findall(r"[^\W\d_]+", text.casefold())
    return frozenset(hash(tuple(words[start : start + 3])) for start in range(len(words) - 2))


def _numbers(text: str) -> tuple[tuple[str, float], ...]:
    return tuple(sorted((amount.measures, amount.value) for amount in quantities(text)))
