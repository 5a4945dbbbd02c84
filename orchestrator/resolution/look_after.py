"""Look at the targets of acts that were answered: the state after, and the word of the action's own probe. Reads in parallel."""

import time
from collections.abc import Sequence

from orchestrator.domain.resolution import Observation
from orchestrator.resolution.call import Call
from orchestrator.resolution.reobserve import look_by
from orchestrator.resolution.runs import Desk
from orchestrator.resolution.send import Look, name_of, reach
from orchestrator.resolution.snapshot import snapshot
from orchestrator.resolution.unknown import verified

PAUSES_S = (0.1, 0.4)  # a system that shows its own changes a little later is looked at again


def look_after(acts: Sequence[Call], desk: Desk) -> None:
    """`after` and `verification` of each. What cannot be read stays empty: it is not known, which is not the same as wrong."""
    list(desk.pool.map(lambda call: _look_after(call, desk), acts))


def _look_after(call: Call, desk: Desk) -> None:
    action = call.action
    if action is None:
        return
    showing = look_by(action.observe, call) if action.observe else None
    probing = look_by(action.probe.observe, call) if action.probe else None
    seen: dict[str, Observation] = {}
    if probing is not None:
        for pause_s in (*PAUSES_S, None):
            probed = seen[name_of(probing)] = _read(call, probing, desk)
            call.verification = verified(action, call.arguments, call.before, probed)
            if call.verification is None or call.verification.confirmed or pause_s is None:
                break
            time.sleep(pause_s)
    if showing is not None:
        shown = seen.get(name_of(showing)) or _read(call, showing, desk)
        call.after = snapshot(*showing, shown)


def _read(call: Call, look: Look, desk: Desk) -> Observation:
    observation = reach(*look, None, desk)
    call.run.fresh[name_of(look)] = observation
    return observation
