"""A worker or a gateway as a plain process, without Ray and with stand-in models: for crash tests and throughput, never for results.

    python -m serving.standalone worker  --dsn DSN --systems URL --secret SECRET
    python -m serving.standalone gateway --dsn DSN --port PORT

Prints one JSON line when it is ready. Ends by SIGTERM after its batch, or by kill -9 at any moment.
"""

import argparse
import json
import logging
import signal
import sys
import threading

from orchestrator.bootstrap import build_desk, open_store, open_systems
from orchestrator.pipeline.worker import Worker
from orchestrator.privacy.logs import protect_logs
from orchestrator.standins import CountingLanguageModel, HashEmbedder, NamedClassifier
from orchestrator.triage.taxonomy import load_taxonomy


def run_worker(arguments: argparse.Namespace) -> None:
    stopping = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stopping.set())
    desk = build_desk(
        store=open_store(arguments.dsn),
        systems=open_systems(arguments.systems, arguments.secret),
        embedder=HashEmbedder(),
        language_model=CountingLanguageModel(),
        classifier=NamedClassifier(names=tuple(c.name for c in load_taxonomy().categories)),
        secret=arguments.secret.encode(),
        threads=arguments.threads,
    )
    worker = Worker(desk, batch_size=arguments.batch, lease_s=arguments.lease)
    print(json.dumps({"ready": True}), flush=True)
    worker.run(stopping)


def run_gateway(arguments: argparse.Namespace) -> None:
    import uvicorn

    from serving.gateway.standalone import standalone_app

    config = uvicorn.Config(standalone_app(arguments.dsn), host="127.0.0.1", port=arguments.port, log_level="warning")
    server = uvicorn.Server(config)
    print(json.dumps({"ready": True}), flush=True)
    server.run()


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="A worker or a gateway with stand-in models.")
    roles = parser.add_subparsers(dest="role", required=True)
    worker = roles.add_parser("worker")
    worker.add_argument("--systems", required=True)
    worker.add_argument("--secret", required=True)
    worker.add_argument("--batch", type=int, default=32)
    worker.add_argument("--threads", type=int, default=8)
    worker.add_argument("--lease", type=float, default=5.0)
    gateway = roles.add_parser("gateway")
    gateway.add_argument("--port", type=int, required=True)
    for role in (worker, gateway):
        role.add_argument("--dsn", required=True)
    arguments = parser.parse_args(argv)
    protect_logs()
    logging.basicConfig(level=logging.WARNING, stream=sys.stderr)
    (run_worker if arguments.role == "worker" else run_gateway)(arguments)
    return 0


if __name__ == "__main__":
    sys.exit(main())
