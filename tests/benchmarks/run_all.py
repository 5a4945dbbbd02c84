"""All benchmarks, one after the other, each in a process of its own; what they print is the table.

    python -m tests.benchmarks.run_all [--only bench_cascade ...]

What the libraries log is held back and shown where a benchmark fails. Exit code 1 where one failed to run; a missed target is printed,
and is no failure. Each took one to five minutes on two busy cores. Wants them quiet: the figures suffer from whatever else runs.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time

BENCHMARKS: tuple[str, ...] = ("bench_orchestrator", "bench_scoring", "bench_prefix_cache", "bench_cascade", "bench_linking")
LIMIT_S = 1800
QUIET = {"VLLM_LOGGING_LEVEL": "ERROR", "PYTHONWARNINGS": "ignore", "TQDM_DISABLE": "1"}


def run(name: str) -> bool:
    """Run one; its figures go to standard output as they come."""
    print(f"\n=== {name}: python -m tests.benchmarks.{name}", flush=True)
    began = time.monotonic()
    with tempfile.TemporaryFile("w+", errors="replace") as log:
        try:
            done = subprocess.run(
                [sys.executable, "-m", f"tests.benchmarks.{name}"], env=os.environ | QUIET, stderr=log, timeout=LIMIT_S, check=False
            )
            problem = f"ended with {done.returncode}" if done.returncode else ""
        except subprocess.TimeoutExpired:
            problem = f"was stopped after {LIMIT_S} s"
        if problem:
            log.seek(0)
            print(log.read()[-4000:], file=sys.stderr)
            print(f"{name} {problem}.", file=sys.stderr)
    print(f"(took {time.monotonic() - began:.0f} s)", flush=True)
    return not problem


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=BENCHMARKS, default=BENCHMARKS, metavar="NAME", help=", ".join(BENCHMARKS))
    ran = [run(name) for name in parser.parse_args().only]
    return 0 if all(ran) else 1


if __name__ == "__main__":
    raise SystemExit(main())
