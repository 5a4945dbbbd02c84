"""Answers from knowledge: what is searched for whom, when a passage is near enough, and what is asked where none is.

Only retrieved passages are told. A question for a live fact is never answered from an article: see `live_facts`.
"""

from collections.abc import Generator, Sequence
from dataclasses import asdict
from typing import Any

from orchestrator.ports import Passage, Reader, Reranker
from orchestrator.resolution import effects
from orchestrator.resolution.case import Case, Question, Stop
from orchestrator.resolution.effects import Effect, Way
from orchestrator.resolution.facts import Facts
from orchestrator.resolution.live_facts import live_fact
from orchestrator.resolution.runbooks import Search

SEARCH_LIMIT = 10
NEAR_THE_BEST = 0.2  # passages of the same article count down to this much below the threshold: they complete the answer
MAX_PASSAGES = 3
POLICY_PLACES = 2.5  # that a policy moves up: past two others, and before the third
READING_SCORE = 0.35
QUESTION_CHARS = 300  # of a question that is kept for the report of gaps


def reader_of(case: Case) -> Reader:
    """The requester, as the directory and billing know them; of somebody unknown nothing is assumed."""
    user, account = case.facts.get("user") or {}, case.facts.get("account") or {}
    return Reader(
        groups=tuple(map(str, user.get("groups") or ())),
        region=str(user.get("region") or ""),
        plan=str(account.get("tier") or ""),
    )


def search_step(case: Case, step: Search, facts: Facts) -> Generator[Effect, Any, Facts]:
    """The passages that answer, or why there is no answer: a live fact, one question where an article is nearly near, a hand-over."""
    live = live_fact(case.words, asdict(case.triage.entities))
    if live is not None:
        raise Stop(f"Asks how a matter of kind {live.kind} stands now: that is for {live.system} to say, never for an article.")
    found: list[Passage] = yield from searched(case)
    case.passages = list(found)
    for passage in found[:3]:
        case.checked.append(f"Knowledge: {named(passage)}, score {passage.score:.2f}")
    rows = answering(found, step.at_least)
    if not rows:
        note_gap(case, found, why="below_threshold" if found else "nothing_found")
        ask_which(case, found, step)
        raise Stop(step.none)
    case.answered_from = str(rows[0]["document_id"])
    return facts.with_fact(step.as_, rows, source="knowledge", detail=f"{rows[0]['document_id']}, passage {rows[0]['passage_id']}")


def searched(case: Case) -> Generator[Effect, Any, list[Passage]]:
    """What knowledge has for this requester's question; with what they answered, once they were asked."""
    words = case.words if case.desk_messages() else case.ticket.text
    found: list[Passage] = yield effects.Search(words=words, limit=SEARCH_LIMIT, reader=reader_of(case))
    return found


def ask_which(case: Case, found: Sequence[Passage], step: Search) -> None:
    """One question, once: raises Question where articles are nearly near enough."""
    if step.ask_from is None or case.desk_messages():
        return
    titles = list(dict.fromkeys(passage.title for passage in found if passage.score >= step.ask_from))[:3]
    if titles:
        text = case.playbook.macros.say(
            "which_article", case.language, name=case.name, choices=titles, ticket_id=case.ticket.id, about=case.circumstances()
        )
        raise Question(text, purpose="detail", missing=("which article",))


def answering(found: Sequence[Passage], at_least: float) -> list[dict[str, Any]]:
    """The first passage that is near enough, and its nearest neighbors from the same article, in their order."""
    best = next((passage for passage in found if passage.score >= at_least), None)
    if best is None:
        return []
    same = [passage for passage in found if passage.document_id == best.document_id and passage.score >= at_least - NEAR_THE_BEST]
    chosen = sorted(same, key=lambda passage: passage is not best)[: 1 if best.sensitive else MAX_PASSAGES]
    return [asdict(passage) for passage in sorted(chosen, key=lambda passage: passage.passage_id)]


def reranked(reranker: Reranker | None, question: str, passages: Sequence[Passage]) -> list[Passage]:
    """By the reranker where there is one. A policy still gains two places over others, as in the search."""
    if reranker is None or len(passages) < 2:
        return list(passages)
    worth = reranker.rank(question, [f"{each.title}\n{each.heading}\n{each.text}" for each in passages])
    order = sorted(range(len(passages)), key=lambda place: (-worth[place], place))
    places = {place: rank - POLICY_PLACES * (passages[place].authority == "policy") for rank, place in enumerate(order)}
    return [passages[place] for place in sorted(order, key=lambda place: places[place])]


def find_reading(case: Case) -> Way:
    """Articles that may help the colleague; never told to the requester."""
    if case.shadow and not case.reads_in_shadow:
        return
    reader = Reader(audience="internal", groups=(case.group(),), region=reader_of(case).region, plan=reader_of(case).plan)
    found: list[Passage] = yield effects.Search(words=case.words, limit=3, reader=reader)
    case.passages = [passage for passage in found if passage.score >= READING_SCORE]
    for passage in case.passages:
        case.checked.append(f"Knowledge: {named(passage)}, {passage.source}, score {passage.score:.2f}")
    if not case.passages:
        note_gap(case, found, why="no_reading")


def named(passage: Passage) -> str:
    """Which article, in which version, from when: for colleagues."""
    dates = [f"{word} {day}" for word, day in (("effective", passage.effective_on), ("reviewed", passage.reviewed_on)) if day]
    return f"“{passage.title}” ({', '.join([passage.document_id, f'version {passage.version}', *dates])})"


def note_gap(case: Case, found: Sequence[Passage], *, why: str) -> None:
    """Kept with the outcome, for the report of what knowledge lacks."""
    nearest = max(found, key=lambda passage: passage.score, default=None)
    case.gap = {
        "question": case.ticket.text[:QUESTION_CHARS],
        "why": why,
        "best": nearest and nearest.score,
        "nearest": nearest.document_id if nearest else "",
    }
