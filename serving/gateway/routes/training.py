"""What the desk's people taught it: training rows with reasons, and decisions with what became of them. Knows HTTP; rules lie in
`orchestrator.triage.eligibility`, SQL in the store."""

from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from starlette.responses import JSONResponse

from orchestrator.domain.triage import OTHERS
from orchestrator.resolution.playbook import COMPANY
from orchestrator.storage import training_rows
from orchestrator.storage.serialize import dump
from orchestrator.storage.transaction import PostgresTransaction
from orchestrator.triage.eligibility import rows_of
from orchestrator.triage.taxonomy import load_taxonomy
from serving.gateway import schemas
from serving.gateway.door import visit_of
from serving.gateway.shop import Shop, shop_of

router = APIRouter(prefix="/v1/training", tags=["training"])
BEGINNING = datetime(2000, 1, 1, tzinfo=UTC)


@lru_cache(maxsize=4)
def owners_of(folder: str | None) -> dict[str, str]:
    """Type -> group that owns it, of the company in this folder; None: the bundled one."""
    taxonomy = load_taxonomy((Path(folder) if folder else COMPANY) / "taxonomy.yaml")
    return {category.name: category.group for category in taxonomy.all if category.name != OTHERS}


@router.get("/rows", responses={200: {"model": schemas.TrainingRowPage}})
async def training_rows_of(asked: Annotated[schemas.TrainingQuery, Query()], request: Request) -> JSONResponse:
    """Overrides, approvals, reopenings, verdicts and hand-overs as training rows, each with who and why, eligible or why not.

    A page holds whole tickets in the order of their numbers: `limit` counts tickets, and every row decided since `since` is given. The
    texts are as the requester wrote them, personal data included; each page is an event of the log.
    """
    shop, caller = shop_of(request), visit_of(request).caller
    since, now = asked.since or BEGINNING, shop.parts.clock()

    def read(tx: PostgresTransaction) -> dict[str, Any]:
        found, following = training_rows.verdicts(tx, since=since, now=now, cursor=asked.cursor, limit=asked.limit)
        owners = _owners(shop)
        items = [row for verdicts in found for row in rows_of(verdicts, owners=owners) if row.decided_at >= since]
        training_rows.note_reading(tx, "rows", by=caller.name, since=since, tickets=len(found))
        return {"items": dump(items), "next_cursor": following}

    return JSONResponse(await shop.desk.run(read))


@router.get("/decisions", responses={200: {"model": schemas.Page}})
async def decisions(asked: Annotated[schemas.TrainingQuery, Query()], request: Request) -> JSONResponse:
    """What triage decided since `since` and what became of it: type, confidence, alternatives, stage, language, correction, outcome."""
    shop, caller = shop_of(request), visit_of(request).caller
    since = asked.since or BEGINNING

    def read(tx: PostgresTransaction) -> dict[str, Any]:
        items, following = training_rows.decisions(tx, since=since, cursor=asked.cursor, limit=asked.limit)
        training_rows.note_reading(tx, "decisions", by=caller.name, since=since, tickets=len(items))
        return {"items": items, "next_cursor": following}

    return JSONResponse(await shop.desk.run(read))


def _owners(shop: Shop) -> dict[str, str]:
    return owners_of(shop.parts.settings.company.folder)
