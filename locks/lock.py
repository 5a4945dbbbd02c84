"""Write a hashed lock from a pip installation report.

Knows pip's report format and which packages are left out on purpose; knows nothing of registries' addresses.

    pip install --dry-run --ignore-installed --quiet --report report.json -r locks/cpu.in
    python locks/lock.py report.json locks/cpu.txt

The lock is installed with `--no-deps --require-hashes`, so that what is left out below stays out.
"""

import json
import sys
from pathlib import Path

LEFT_OUT = {
    "torchvision": "a CUDA build that breaks importing transformers beside CPU torch; text models need none",
    "torchaudio": "text models need none",
    "torchcodec": "text models need none",
    "sentry-sdk": "telemetry; comes only with fastapi[standard]",
    "fastapi-cli": "comes only with fastapi[standard]",
    "fastapi-cloud-cli": "talks to a hosted service; comes only with fastapi[standard]",
    "rignore": "only for fastapi-cloud-cli",
    "fastar": "only for fastapi-cloud-cli",
    "rich-toolkit": "only for fastapi-cli",
    "detect-installer": "only for fastapi-cloud-cli",
    "agent-detector": "only for fastapi-cloud-cli",
}


def locked_lines(report: dict) -> list[str]:
    """One `name==version --hash=sha256:...` line per package of the report, sorted by name."""
    lines = []
    for item in report["install"]:
        name, version = item["metadata"]["name"], item["metadata"]["version"]
        if name.lower() in LEFT_OUT:
            continue
        sha256 = item["download_info"]["archive_info"]["hashes"]["sha256"]
        lines.append(f"{name}=={version} --hash=sha256:{sha256}")
    return sorted(lines, key=str.lower)


def main() -> int:
    if len(sys.argv) != 3:
        print("usage: lock.py REPORT.json LOCK.txt", file=sys.stderr)
        return 2
    source, target = map(Path, sys.argv[1:])
    lines = locked_lines(json.loads(source.read_text()))
    left_out = "\n".join(f"#   {name}: {why}" for name, why in LEFT_OUT.items())
    target.write_text(
        "# Made by locks/lock.py from the .in file beside it, for Linux x86-64 and Python 3.11.\n"
        "# Install with: pip install --no-deps --require-hashes -r THIS\n"
        f"# Left out on purpose:\n{left_out}\n" + "\n".join(lines) + "\n"
    )
    print(f"{target}: {len(lines)} packages")
    return 0


if __name__ == "__main__":
    sys.exit(main())
