"""`python -m orchestrator.sandbox`: the systems of record as one process on loopback."""

import argparse
import os
import sys
from pathlib import Path

from orchestrator.sandbox.server import serve
from orchestrator.sandbox.store import AlreadyOpen, Store
from orchestrator.sandbox.world import BadWorld, read_world


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m orchestrator.sandbox",
        description="Serves sandbox systems of record on 127.0.0.1. Prints one JSON line with the URL when it listens.",
        epilog="Example: CLOISTER_SANDBOX_SECRET=s3cret python -m orchestrator.sandbox --db world.db --port 0 --world world.json",
    )
    parser.add_argument("--db", type=Path, required=True, help="the SQLite file; a file of before is continued")
    parser.add_argument("--port", type=int, default=0, help="0 (the default) takes a free one")
    parser.add_argument("--secret-env", default="CLOISTER_SANDBOX_SECRET", help="environment variable that tokens are derived from")
    parser.add_argument("--world", type=Path, help="a world file; seeds a database that holds no world yet")
    parser.add_argument("--stop-with-stdin", action="store_true", help="stop when standard input closes")
    return parser.parse_args()


def main() -> int:
    arguments = _arguments()
    secret = os.environ.get(arguments.secret_env, "")
    if not secret:
        print(f"{arguments.secret_env} is empty; set it to the secret that tokens are derived from.", file=sys.stderr)
        return 2
    try:
        store = Store(arguments.db)
        if not store.seeded:
            store.seed(read_world(arguments.world) if arguments.world else {})
    except (BadWorld, AlreadyOpen) as error:
        print(error, file=sys.stderr)
        return 3
    try:
        serve(store, port=arguments.port, secret=secret, stop_with_stdin=arguments.stop_with_stdin)
    except OSError as error:
        print(f"Port {arguments.port} of 127.0.0.1 cannot be listened on: {error}.", file=sys.stderr)
        return 4
    return 0


if __name__ == "__main__":
    sys.exit(main())
