"""One ticket's events as evidence: their lines, their proofs to a signed checkpoint, the key, and a signature over all of it (DSSE).

The payload is JSON: {format, ticket, at, key, checkpoint, events: [{before, line, proof}]}. `line` is the event's line of an export,
`before` the hash of the event before it, `proof` the audit path of RFC 6962 from the event's hash to the checkpoint's root.
"""

import base64
import json
from collections.abc import Iterable, Sequence

from orchestrator.audit.checkpoints import AuditBroken, Checkpoint
from orchestrator.audit.events import EventRow, line
from orchestrator.audit.merkle import inclusion_proofs
from orchestrator.audit.note import Signer

PAYLOAD_TYPE = "application/vnd.cloister.audit-bundle+json"
FORMAT = "cloister-audit-bundle-1"


def bundle(
    ticket_id: str,
    event_hashes: Iterable[bytes],
    indexes: Sequence[int],
    events: Sequence[tuple[EventRow, bytes]],
    checkpoint: Checkpoint,
    signer: Signer,
    *,
    at: str,
) -> str:
    """JSON text. `events` (with the hash before each) may be filled while `event_hashes` is read. Raises AuditBroken."""
    root, proofs = inclusion_proofs(event_hashes, indexes)
    if root != checkpoint.root:
        raise AuditBroken(f"The log is not the one that {checkpoint.named} covers.", hint="Run `cloister audit verify`.")
    shown = [
        {"before": before.hex(), "line": line(event), "proof": [node.hex() for node in proofs[event.seq - 1]]}
        for event, before in events
    ]
    payload = {
        "format": FORMAT,
        "ticket": ticket_id,
        "at": at,
        "key": str(signer.key),
        "checkpoint": checkpoint.note,
        "events": shown,
    }
    return _envelope(json.dumps(payload, ensure_ascii=False, separators=(",", ":")).encode(), signer)


def _envelope(payload: bytes, signer: Signer) -> str:
    kind = PAYLOAD_TYPE.encode()
    signature = signer.private.sign(b"DSSEv1 %d %s %d %s" % (len(kind), kind, len(payload), payload))
    signatures = [{"keyid": signer.key.key_id, "sig": base64.b64encode(signature).decode()}]
    return json.dumps(
        {"payloadType": PAYLOAD_TYPE, "payload": base64.b64encode(payload).decode(), "signatures": signatures}, indent=1
    )
