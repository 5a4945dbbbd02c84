"""The console's pages and forms. Knows sessions, the store's verbs and templates; every text is escaped by the templates."""

from fastapi import APIRouter, Request
from starlette.responses import HTMLResponse, Response

from serving.gateway.console.rendering import asset
from serving.gateway.problems import Problem, Refusal

router = APIRouter(include_in_schema=False)


def problem_page(request: Request, problem: Problem) -> Response:
    return HTMLResponse(problem.detail, status_code=problem.status)


@router.get("/console/assets/{name}")
async def assets(name: str) -> Response:
    found = asset(name)
    if found is None:
        raise Refusal(404, f"There is no asset {name[:80]!r}.")
    return Response(found[0], media_type=found[1], headers={"Cache-Control": "public, max-age=3600"})
