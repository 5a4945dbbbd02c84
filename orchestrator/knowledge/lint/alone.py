"""What can be seen in one article: dates, exceptions, links, long sections, policy ids. Knows no other article but by its path."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from urllib.parse import unquote

from orchestrator.knowledge.lint.articles import Article
from orchestrator.knowledge.lint.findings import ERROR, Finding, finding
from orchestrator.privacy.quoting import quoted

LONG_WORDS = 300
MANY_CONDITIONS = 3
TOPICS: Mapping[str, re.Pattern[str]] = {
    "refunds": re.compile(r"\brefund\w*|\berstatt\w+|\bremboursement\w*", re.I),
    "cancellations": re.compile(r"\bcancel(?!led\b)\w*|\bkündig\w+|\brésili\w+", re.I),
    "access": re.compile(
        r"\baccess (?:right|grant|request|rule|polic)\w*|\bidentity check\w*|\bzugriffsrecht\w*|\bdroits? d'accès", re.I
    ),
}
ELIGIBLE = re.compile(
    r"\b(?:refund\w*|eligib\w*|entitle\w*|cancel\w*|return(?:ed|s)?|access|approv\w*|grant\w*|allowed|permitted"
    r"|reimburs\w*|credit(?:ed)?"
    r"|erstatt\w*|kündig\w*|zugriff|genehmig\w*|erlaubt|rembours\w*|annul\w*|accord\w*)\b",
    re.I,
)
VAGUE = re.compile(
    r"\b(?:(?:except |but not )?in (?:special|exceptional|some|certain|rare|individual) (?:cases|circumstances)"
    r"|special cases|exceptional(?:ly)?"
    r"|unless (?:otherwise \w+|\w+(?: \w+){0,4} otherwise)|as (?:appropriate|needed|necessary|applicable)"
    r"|where (?:appropriate|applicable)"
    r"|at (?:our|the desk's|the agent's) discretion|case[- ]by[- ]case|usually|normally|generally|typically|as a rule"
    r"|may be (?:refunded|eligible|granted|approved|possible|entitled|cancelled|credited|allowed)"
    r"|in (?:sonder|ausnahme|einzel)fällen|nach ermessen|in der regel|normalerweise|gegebenenfalls|le cas échéant"
    r"|dans certains cas|en général)\b",
    re.I,
)
CHANGE = re.compile(
    r"\b(?:from now on|as of (?:now|recently)|starting (?:soon|next \w+|this \w+)|(?:has|have|was"
    r"|were) recently (?:changed|updated)|recently changed"
    r"|new (?:policy|rule|limit)s? (?:applies|apply)|will (?:soon|shortly) (?:change|be)|until further notice"
    r"|ab sofort|bis auf weiteres|demnächst"
    r"|désormais|jusqu'à nouvel ordre)\b",
    re.I,
)
DAY = re.compile(
    r"\b(?:\d{4}-\d\d-\d\d|\d{1,2}\.? (?:\w+\.?) \d{4}|\w+ \d{1,2},? \d{4}|\d{1,2}[./]\d{1,2}[./]\d{4}|(?:\w+ )?20\d\d)\b"
)
RETIRED = re.compile(
    r"\b(?:internet explorer(?: \d+)?|windows (?:xp|vista|7|8(?:\.1)?)|office (?:2003|2007|2010|2013)|(?:exchange"
    r"|sharepoint) server (?:2007|2010|2013)"
    r"|skype for business online|flash player|python 2(?:\.\d)?|tls 1\.[01]|ssl ?v?[23])(?![.\d])\b",
    re.I,
)
ENDED = re.compile(
    r"\b(?:retired|deprecated|end of (?:support|life)|no longer|replaced|superseded|instead of|abgekündigt|ersetzt)\b", re.I
)
LINK = re.compile(r"(?<!\\)!?\[(?:[^\[\]\\]|\\.)*\]\(\s*<?([^)\s>]+)>?(?:\s+(?:\"[^\"]*\"|'[^']*'))?\s*\)")
CODE = re.compile(r"`[^`\n]*`")


@dataclass(frozen=True, kw_only=True)
class Shop:
    """What every article is held against."""

    today: date
    retired: re.Pattern[str] | None  # the house's own


def alone(article: Article, shop: Shop) -> Iterator[Finding]:
    """Every finding in one article."""
    yield from _dates(article, shop)
    yield from _policy_id(article)
    yield from _sentences(article, shop)
    yield from _sections(article)
    yield from _links(article)
    yield from _summary(article)


def topics(article: Article) -> set[str]:
    """Which of the matters with one source of truth it decides on: by its title."""
    return {name for name, pattern in TOPICS.items() if pattern.search(article.about.title)}


def _strict(article: Article) -> str:
    return ERROR if article.about.authority == "policy" else ""


def _dates(article: Article, shop: Shop) -> Iterator[Finding]:
    about = article.about
    missing = [name for name in ("effective_on", "reviewed_on") if not getattr(about, name)]
    if missing:
        yield finding("undated", article.file, 1, f"{' and '.join(missing)} missing", severity=_strict(article))
    if about.review_by and about.review_by < shop.today.isoformat():
        yield finding(
            "stale", article.file, 1, f"was to be reviewed by {about.review_by} (last on {about.reviewed_on or 'no day'})"
        )


def _policy_id(article: Article) -> Iterator[Finding]:
    about = article.about
    if about.authority == "policy" and topics(article) and not about.policy_id:
        yield finding("policy-id", article.file, 1, f"a policy on {', '.join(sorted(topics(article)))} without policy_id")


def _sentences(article: Article, shop: Shop) -> Iterator[Finding]:
    named = f"{article.about.title} {' '.join(section.heading for section in article.sections)}"
    for sentence in article.sentences:
        text = sentence.text
        if (vague := VAGUE.search(text)) and ELIGIBLE.search(text):
            yield finding(
                "undefined-exception", article.file, sentence.line, f"“{vague[0]}” in: {short(text)}", severity=_strict(article)
            )
        if (change := CHANGE.search(text)) and not DAY.search(text):
            yield finding(
                "undated-change", article.file, sentence.line, f"“{change[0]}” in: {short(text)}", severity=_strict(article)
            )
        for pattern in (RETIRED, shop.retired):
            if pattern and (old := pattern.search(text)) and not ENDED.search(text) and old[0].casefold() not in named.casefold():
                yield finding("retired", article.file, sentence.line, f"{old[0]} in: {short(text)}")
                break


def _sections(article: Article) -> Iterator[Finding]:
    for place, section in enumerate(article.sections):
        words = sum(len(block.text.split()) for block in section.blocks if block.kind == "text")
        if words > LONG_WORDS:
            yield finding(
                "long-section", article.file, section.line, f"“{section.heading or article.about.title}” has {words} words"
            )
        if article.about.authority != "policy":
            continue
        mine = [sentence for sentence in article.sentences if sentence.section == place and ELIGIBLE.search(sentence.text)]
        decided = {name for name, pattern in TOPICS.items() for sentence in mine if pattern.search(sentence.text)}
        if len(decided) > 1:
            what = f"“{section.heading or article.about.title}” decides on {' and '.join(sorted(decided))}"
            yield finding("several-purposes", article.file, section.line, what)
        for block in section.blocks:
            inside = [s for s in mine if block.line <= s.line <= block.line + block.text.count("\n")]
            if block.kind == "text" and not re.match(r"\s*(?:[-*+]|\d+[.)])\s", block.text) and len(inside) > MANY_CONDITIONS:
                yield finding("eligibility-prose", article.file, block.line, f"{len(inside)} conditions in one paragraph")


def _links(article: Article) -> Iterator[Finding]:
    anchors = {slug(section.path[-1]) for section in article.sections if section.path} | _anchors(article.body)
    for section in article.sections:
        for block in section.blocks:
            if block.kind == "code":
                continue
            text = CODE.sub(lambda code: " " * len(code[0]), block.text)
            for match in LINK.finditer(text):
                if problem := _broken(article.path, unquote(match[1]), anchors):
                    yield finding("broken-link", article.file, block.line + text.count("\n", 0, match.start()), problem)


def _broken(path: Path, target: str, anchors: set[str]) -> str:
    file, _, anchor = target.partition("#")
    if re.match(r"[a-z][a-z0-9+.-]*:|//|/|~|\{|<", target, re.I):
        return ""  # of another place: nothing here can say whether it is there
    file = file.partition("?")[0]
    if not file:
        return (
            "" if not anchor or slug(anchor) in anchors or anchor.startswith(("bkmk", "tab/")) else f"there is no heading #{anchor}"
        )
    other = path.parent / file
    if not other.exists():
        return f"there is no file {target}"
    if anchor and other.suffix == ".md" and slug(anchor) not in _headings(other):
        return f"{file} has no heading #{anchor}"
    return ""


def _headings(path: Path) -> set[str]:
    body = path.read_text(encoding="utf-8", errors="replace")
    return {slug(match) for match in re.findall(r"^ {0,3}#{1,6}\s+(.+?)\s*#*\s*$", body, re.M)} | _anchors(body)


def _anchors(body: str) -> set[str]:
    return {slug(name) for name in re.findall(r"<a\s+(?:name|id)=[\"']([^\"']+)", body)} | {
        slug(match) for match in re.findall(r"^ {0,3}#{1,6}\s+(.+?)\s*#*\s*$", body, re.M)
    }


def slug(heading: str) -> str:
    """As Markdown renderers name a heading: lower case, words joined by hyphens, nothing else."""
    return re.sub(r"[^\w-]", "", re.sub(r"\s", "-", re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).strip().lower()))


def _summary(article: Article) -> Iterator[Finding]:
    about = article.about
    if about.sensitive and (quote := quoted(about.summary, [section.text for section in article.sections])):
        yield finding("summary-quotes", article.file, 1, f"its summary quotes it: “{quote.words}”")


def short(text: str) -> str:
    plain = " ".join(text.split())
    return plain if len(plain) <= 120 else f"{plain[:117]}..."
