"""Choose the assignment group and the colleague: by skill, availability and present workload, not by text alone."""

from collections.abc import Mapping

from orchestrator.domain.directory import Alert, Colleague, Directory
from orchestrator.domain.triage import Assignment, Entities, Signals

SKILL_POINTS = 2.0  # per matching skill (the category or a named service)
LANGUAGE_POINTS = 1.0
LOAD_POINTS = -0.25  # per open ticket


def route(
    *,
    category: str,
    default_group: str,
    entities: Entities,
    signals: Signals,
    alerts: tuple[Alert, ...],
    directory: Directory,
    load: Mapping[str, int],
) -> Assignment:
    """The owner of the service that monitoring blames comes first, then the category's group; within it the best free person."""
    group, why = _group(category, default_group, alerts, directory)
    reasons = [why]
    best = _best(group, category, entities, signals, directory, load)
    if best is None:
        reasons.append(f"nobody of {group} is available: left to the group's queue")
        return Assignment(group=group, assignee=None, reasons=tuple(reasons))
    colleague, said = best
    reasons.append(f"{colleague.name}: {said}")
    return Assignment(group=group, assignee=colleague.email, reasons=tuple(reasons))


def _group(category: str, default_group: str, alerts: tuple[Alert, ...], directory: Directory) -> tuple[str, str]:
    for alert in alerts:
        service = directory.service(alert.service)
        if service and service.owner_group:
            return service.owner_group, f"{service.owner_group} owns {service.name}, where {alert.kind} is firing"
    return default_group, f"{default_group} handles {category}"


def _best(
    group: str, category: str, entities: Entities, signals: Signals, directory: Directory, load: Mapping[str, int]
) -> tuple[Colleague, str] | None:
    ranked = []
    for colleague in directory.staff:
        if colleague.group != group or not colleague.available:
            continue
        skills = {category, *entities.services} & {skill.lower() for skill in colleague.skills}
        speaks = signals.language in colleague.languages
        open_now = colleague.open_tickets + load.get(colleague.email, 0)
        points = SKILL_POINTS * len(skills) + LANGUAGE_POINTS * speaks + LOAD_POINTS * open_now
        language = f"speaks {signals.language}" if speaks else "other languages"
        said = f"skills {', '.join(sorted(skills)) or 'none listed'}; {language}; {open_now} open"
        ranked.append((-points, colleague.email, colleague, said))
    if not ranked:
        return None
    _, _, colleague, said = min(ranked, key=lambda row: row[:2])
    return colleague, said
