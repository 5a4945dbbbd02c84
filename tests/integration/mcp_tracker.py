"""A real MCP server for the tests: an issue tracker, built with the protocol's own package. Its world is one JSON file.

Run: python -m tests.integration.mcp_tracker WORLD.json stdio|PORT. Without a tool named in `gone`; with `words` as the description.
"""

import json
import sys
from pathlib import Path
from typing import Any

from mcp.server.mcpserver import Context, MCPServer
from mcp.types import ToolAnnotations

WORLD = Path(sys.argv[1])


def world() -> dict[str, Any]:
    return json.loads(WORLD.read_text(encoding="utf-8"))


def change(**values: Any) -> None:
    WORLD.write_text(json.dumps({**world(), **values}), encoding="utf-8")


def get_issue(key: str) -> dict[str, Any]:
    issues = world()["issues"]
    if key not in issues:
        raise ValueError(f"no issue {key}")
    return {"key": key, "state": issues[key]}


async def close_issue(key: str, ctx: Context) -> dict[str, Any]:
    meta = ctx.request_context.meta or {}
    found = world()
    change(issues={**found["issues"], key: "closed"}, keys=[*found["keys"], dict(meta).get("cloister/idempotency-key")])
    return {"key": key, "state": "closed"}


def misbehave(how: str) -> dict[str, Any]:
    change(misbehaved=how)
    if how == "dies":
        sys.exit(3)
    if how == "fails":
        raise RuntimeError("half done")
    return {"odd": "x" * 10}


def main() -> None:
    server = MCPServer("tracker")
    found = world()
    tools = {"get_issue": get_issue, "close_issue": close_issue, "misbehave": misbehave}
    for name, function in tools.items():
        if name not in found.get("gone", []):
            words = found.get("words", {}).get(name, f"Says what {name} does.")
            server.add_tool(function, name=name, description=words, annotations=ToolAnnotations(read_only_hint=True))
    if sys.argv[2] == "stdio":
        server.run("stdio")
    else:
        server.run("streamable-http", host="127.0.0.1", port=int(sys.argv[2]))


if __name__ == "__main__":
    main()
