"""Write the OpenAPI document where it is committed: `python -m serving.gateway.write_openapi [FILE]`. Reaches no database."""

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from orchestrator.storage.store import PostgresStore
from serving.gateway.app import create_app
from serving.gateway.standalone import standalone_parts

FILE = Path("docs/openapi.json")


def text_of(document: Mapping[str, Any]) -> str:
    return json.dumps(document, indent=1, ensure_ascii=False) + "\n"


def main(arguments: list[str]) -> int:
    file = Path(arguments[0]) if arguments else FILE
    app = create_app(standalone_parts(PostgresStore("")))  # opens nothing before it is asked something
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text_of(app.openapi()), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
