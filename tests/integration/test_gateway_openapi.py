"""The committed OpenAPI document is the contract: whoever changes a route changes it, too, and sees the difference.

python -m serving.gateway.write_openapi      # writes docs/openapi.json anew
"""

import json
from pathlib import Path

from orchestrator.storage.store import PostgresStore
from serving.gateway.app import create_app
from serving.gateway.problems import MEDIA_TYPE
from serving.gateway.roles import OPEN, ROUTE_ROLES
from serving.gateway.standalone import standalone_parts
from serving.gateway.write_openapi import text_of

COMMITTED = Path(__file__).resolve().parents[2] / "docs" / "openapi.json"


def test_the_committed_document_is_what_the_app_says(store: PostgresStore) -> None:
    said = text_of(create_app(standalone_parts(store)).openapi())
    assert said == COMMITTED.read_text(encoding="utf-8"), "Run python -m serving.gateway.write_openapi and look at the difference."


def test_every_guarded_route_says_its_roles_and_its_problems() -> None:
    document = json.loads(COMMITTED.read_text(encoding="utf-8"))
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            roles = ROUTE_ROLES[method.upper(), path]
            if roles == OPEN:
                assert operation["security"] == []
                continue
            assert operation["x-roles"] == sorted(roles)
            assert {"401", "403"} <= set(operation["responses"])
            assert MEDIA_TYPE in operation["responses"]["401"]["content"]
            assert operation.get("description"), f"{method} {path} says nothing"


def test_every_reference_leads_somewhere() -> None:
    text = COMMITTED.read_text(encoding="utf-8")
    schemas = json.loads(text)["components"]["schemas"]
    wanted = {part.partition('"')[0] for part in text.split("#/components/schemas/")[1:]}
    assert wanted <= set(schemas)
