"""One finding, and the table of rules: what each looks for, how bad it is, what to do. Knows no article."""

from collections.abc import Mapping
from dataclasses import dataclass

ERROR, WARNING, INFO = "error", "warning", "info"


@dataclass(frozen=True, kw_only=True)
class Rule:
    severity: str  # error: the desk could tell somebody something wrong
    finds: str
    todo: str


RULES: Mapping[str, Rule] = {
    "front-matter": Rule(severity=ERROR, finds="a document that cannot be read: no front matter, a missing or unknown field",
                         todo="Mend the fields between the two lines of ---."),
    "duplicate-id": Rule(severity=ERROR, finds="the same id in two documents",
        todo="Give one of them another id, or let it supersede the other."),
    "contradiction": Rule(severity=ERROR,
        finds="two passages that give different values for the same thing, or of which one says not",
                          todo="Decide which is right, correct the other, or say for whom each of them holds."),
    "duplicate-disagrees": Rule(severity=ERROR, finds="nearly the same section twice, with different values",
                                todo="Keep one of them and link to it."),
    "duplicate": Rule(severity=WARNING, finds="nearly the same section in two documents", todo="Keep one of them and link to it."),
    "two-sources": Rule(severity=ERROR, finds="two policies on refunds, cancellations or access for the same readers",
                        todo="Make it one policy, or let the newer one supersede the older one."),
    "policy-id": Rule(severity=ERROR, finds="a policy on refunds, cancellations or access without policy_id",
        todo="Add policy_id."),
    "stale": Rule(severity=WARNING, finds="a document whose day of review has passed", todo="Review it and set reviewed_on."),
    "retired": Rule(severity=WARNING, finds="a version or product that is retired",
        todo="Say what replaces it, or take the step out."),
    "undated": Rule(severity=WARNING, finds="no effective_on or no reviewed_on; an error in a policy", todo="Add the dates."),
    "undated-change": Rule(severity=WARNING, finds="a change announced without a day; an error in a policy", todo="Name the day."),
    "undefined-exception": Rule(severity=WARNING,
        finds="an exception or a maybe beside eligibility that nothing defines; an error in a policy",
                                todo="Say who is excepted and when, or take it out."),
    "broken-link": Rule(severity=ERROR, finds="a link to a file or heading that is not there",
        todo="Correct the link or take it out."),
    "long-section": Rule(severity=WARNING, finds="a section of more than 300 words",
        todo="Cut it into sections with one purpose each."),
    "several-purposes": Rule(severity=WARNING, finds="one section that decides on two of refunds, cancellations, access",
                             todo="Give each of them a section."),
    "eligibility-prose": Rule(severity=INFO, finds="more than three conditions of eligibility in one paragraph of a policy",
                              todo="Write them as a list."),
    "summary-quotes": Rule(severity=ERROR, finds="a sensitive document whose summary quotes it", todo="Say it in other words."),
}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Finding:
    file: str
    line: int  # from 1
    rule: str
    severity: str
    message: str
    todo: str
    other: str = ""  # "file:line" of the other passage, where there are two


def finding(rule: str, file: str, line: int, message: str, *, severity: str = "", other: str = "") -> Finding:
    known = RULES[rule]
    return Finding(
        file=file, line=line, rule=rule, severity=severity or known.severity, message=message, todo=known.todo, other=other
    )
