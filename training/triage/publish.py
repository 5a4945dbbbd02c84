"""Put adapter and head into the store, each with its manifest. Knows folders; computes nothing.

python -m training.triage.publish training/triage/configs.yaml
"""

import json
import shutil
import sys
from pathlib import Path

import yaml

from models.local import ADAPTER, HEAD
from models.manifest import Kind, verify, write

HEAD_DATA = (
    "house-written tickets (Apache-2.0)",
    "banking77, mapped intents (CC-BY-4.0)",
    "clinc150, mapped intents and out of scope (CC-BY-3.0)",
    "bitext, mapped intents (CDLA-Sharing-1.0)",
)


def publish(work: Path, out: Path, *, seed: int) -> list[str]:
    """Copy both folders over what the store holds; gives their full names."""
    adapter = out / ADAPTER
    shutil.rmtree(adapter, ignore_errors=True)
    shutil.copytree(work / "adapter", adapter)
    head = out / HEAD
    shutil.rmtree(head, ignore_errors=True)
    shutil.copytree(work / "head", head)
    figures = json.loads((work / "figures.json").read_text(encoding="utf-8"))
    manifest = write(head, name=HEAD, kind=Kind.HEAD, license="Apache-2.0", data=HEAD_DATA, made={"seed": seed, "figures": figures})
    return [verify(adapter).full_name, manifest.full_name]


def main(config_path: str) -> None:
    config = yaml.safe_load(Path(config_path).read_text(encoding="utf-8"))
    for name in publish(Path(config["work"]), Path(config["store"]), seed=config["seed"]):
        print(name)


if __name__ == "__main__":
    main(sys.argv[1])
