"""What an analyst reads about a triage: every statement with its figure."""

from orchestrator.domain.triage import (
    Assignment,
    Classification,
    Entities,
    Evidence,
    Link,
    LinkKind,
    Neighbor,
    Priority,
    PriorityLevel,
    Triage,
)
from orchestrator.triage.explain import explain
from tests.unit.desk_house import alert, signals

SURE = Classification(
    category="vpn",
    confidence=0.93,
    abstained=False,
    alternatives=(("vpn", 0.93), ("network", 0.04), ("Others", 0.01)),
    stage="head",
    neighbors=(Neighbor(category="vpn", similarity=0.88, text="VPN drops every hour"),),
)
LINKED = Link(
    kind=LinkKind.INCIDENT,
    ticket_id="T-7",
    incident_id="INC-1",
    similarity=0.8,
    score=0.91,
    evidence=(
        Evidence(kind="same_category", detail="both vpn", weight=0.3),
        Evidence(kind="cosine", detail="texts are 0.80 similar", weight=3.5),
        Evidence(kind="same_alert", detail="both explained by down on vpn", weight=7.0),
        Evidence(kind="other_version", detail="2.1 against 2.2", weight=-2.5),
        Evidence(kind="words", detail="rare words shared: 0.10", weight=1.1),
    ),
)


def triage(**changed: object) -> Triage:
    usual: dict[str, object] = {"classification": SURE, "entities": Entities(), "signals": signals(), "link": None}
    usual["priority"] = Priority(
        level=PriorityLevel.P4, impact=4, urgency=4, sla_due_at=None, reasons=("impact 4 x urgency 4 gives P4",)
    )
    usual["assignment"] = Assignment(group="Service Desk", assignee=None, reasons=("Service Desk handles vpn",))
    return Triage(**{**usual, "explanation": (), **changed})  # type: ignore[arg-type]


def said(found: Triage, *alerts) -> str:
    return "\n".join(explain(found, alerts))


def test_type_confidence_who_decided_and_what_came_next_are_said() -> None:
    text = said(triage())
    assert "Category vpn with 93% confidence, decided by the linear head; next network 4%, Others 1%." in text
    assert "Nearest labeled ticket (vpn, cosine 0.88): “VPN drops every hour”." in text


def test_a_guess_that_is_not_acted_on_is_called_one() -> None:
    unsure = Classification(category="vpn", confidence=0.41, abstained=True, alternatives=(("vpn", 0.41),), stage="model")
    text = said(triage(classification=unsure))
    assert "Not sure enough to act: best guess vpn with 41% confidence, decided by the language model with the head." in text


def test_a_type_that_monitoring_settled_says_by_which_alert() -> None:
    settled = Classification(category="vpn", confidence=0.4, abstained=False, alternatives=(), stage="head", settled_by="al-9")
    assert "the alert al-9 settles it" in said(triage(classification=settled))


def test_a_link_gives_its_four_weightiest_reasons_for_and_against() -> None:
    line = next(line for line in explain(triage(link=LINKED)) if line.startswith("Linked"))
    assert line == (
        "Linked to T-7 (incident, score 0.91): both explained by down on vpn; texts are 0.80 similar; "
        "2.1 against 2.2; rare words shared: 0.10."
    )


def test_alerts_cues_priority_and_group_have_a_sentence_each() -> None:
    text = said(triage(signals=signals(cues=("now: “asap”",))), alert("tills", site="Graz"))
    assert "Monitoring explains it: down on tills at Graz (al-1)." in text
    assert "The wording shows now: “asap”." in text
    assert "P4: impact 4 x urgency 4 gives P4." in text
    assert "To Service Desk: Service Desk handles vpn." in text


def test_the_plainest_ticket_still_has_its_reasons() -> None:
    assert (
        len(
            explain(
                triage(
                    classification=Classification(category="vpn", confidence=1.0, abstained=False, alternatives=(), stage="head")
                )
            )
        )
        == 3
    )
