"""After the storm: was anything lost, was anything done twice? Reads the desk's records and the systems' own list of calls.

Nothing lost: every ticket that the gateway promised to keep has an outcome, none was given up, and nobody waits for a ticket that is
resolved.
Nothing twice: every effect in the world happened exactly once for the tickets that claim it and never otherwise; every reply of the
desk arrived exactly once.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from tests.acceptance.kill_cases import Case, effect_of
from tests.acceptance.kill_flow import Flow

OUR_OWN = frozenset({"mail", "helpdesk"})  # write-back and mails are judged apart


def judge(store: Any, calls: Sequence[Mapping[str, Any]], flow: Flow, *, as_planned: bool = True) -> list[str]:
    """What went wrong, one sentence each; empty when nothing did. Real models may read a ticket otherwise than `as_planned`."""
    records = {external: _record(store, ticket_id) for external, ticket_id in flow.accepted.items()}
    by_id = {record["id"]: record for record in records.values()}
    lost = [external for external, record in records.items() if record["state"] == "active" or not record["outcome"]]
    problems = [f"{flow.accepted[external]} ({external}) has no outcome" for external in lost]
    problems += [f"{r['id']} was given up" for r in records.values() if any(e["kind"] == "given_up" for e in r["timeline"])]
    problems += [p for e, r in records.items() if as_planned and (p := _end(flow.cases[e], r, by_id))]
    problems += _effects(records, calls, flow, as_planned=as_planned)
    problems += _replies(records, calls)
    problems += _codes(calls)
    chain = store.run(lambda tx: tx.verify_chain())
    return problems if chain["whole"] else [*problems, f"the audit chain is broken: {chain}"]


def _record(store: Any, ticket_id: str) -> dict[str, Any]:
    record: dict[str, Any] = store.run(lambda tx: tx.ticket_record(ticket_id))
    return record


def _end(case: Case, record: Mapping[str, Any], by_id: Mapping[str, Mapping[str, Any]]) -> str | None:
    """What is odd about a ticket's end."""
    named = f"{record['id']} ({case.matter.name}, {case.external_id})"
    if record["state"] == "pending":
        return f"{named} still waits: {record['state_reason']}"
    if record["outcome"] == "linked":
        lead = by_id.get(record["linked_to"] or "")
        return f"{named} still waits for {record['linked_to']}, which is {lead and lead['state']}"
    if case.matter.name == "service_outage":
        return None  # the first is resolved, the others with it; one that came after the restart finds nothing to cure
    return None if record["state"] == case.matter.ends else f"{named} is {record['state']}: {record['state_reason']}"


def _effects(
    records: Mapping[str, Mapping[str, Any]], calls: Sequence[Mapping[str, Any]], flow: Flow, *, as_planned: bool
) -> list[str]:
    happened = Counter(effect_of(call) for call in calls if call["changed"] and call["system"] not in OUR_OWN)
    wanted: dict[tuple[str, str], list[str]] = {}
    for external, case in flow.cases.items():
        if case.effect is not None:
            wanted.setdefault(case.effect, []).append(external)
    problems = [f"{' '.join(e)} happened {n} times" for e, n in happened.items() if n > 1]
    problems += [f"{' '.join(e)} happened and no ticket asked for it" for e in happened if e not in wanted]
    for effect, externals in wanted.items():
        resolved = [e for e in externals if e in records and records[e]["state"] == "resolved"]
        if as_planned and resolved and not happened[effect]:
            problems.append(f"{records[resolved[0]]['id']} is resolved but {' '.join(effect)} never happened")
        if happened[effect] and not resolved and all(e in records for e in externals):
            problems.append(f"{' '.join(effect)} happened but {externals} is not resolved")
    return problems


def _replies(records: Mapping[str, Mapping[str, Any]], calls: Sequence[Mapping[str, Any]]) -> list[str]:
    """Every word of the desk arrived at the system where the ticket came from, once."""
    arrived: dict[str, Counter[str]] = {}
    for call in calls:
        if call["changed"] and call["system"] == "helpdesk" and call["path"].endswith("/replies"):
            arrived.setdefault(call["path"].split("/")[3], Counter())[call["body"]["body"]] += 1
    problems = []
    for external, record in records.items():
        said = Counter(message["body"] for message in record["messages"] if message["author"] == "desk")
        if said != arrived.get(external, Counter()):
            problems.append(f"{record['id']} ({external}): the desk said {said}, {arrived.get(external)} arrived")
        problems += [f"{record['id']} was told {n} times: {body[:60]!r}" for body, n in said.items() if n > 1]
    return problems


def _codes(calls: Sequence[Mapping[str, Any]]) -> list[str]:
    """Nobody gets the same code twice."""
    mails = Counter((call["body"]["to"], call["body"]["body"]) for call in calls if call["changed"] and call["system"] == "mail")
    return [f"{to} got the same mail {n} times" for (to, _), n in mails.items() if n > 1]
