"""Last step: put a model's files into the store with their manifest. Knows folders; computes nothing.

python -m training.nano.publish training/nano/configs/nano.yaml
"""

import json
import shutil
import sys
from pathlib import Path
from typing import Any

import yaml

from models.local import BASE
from models.manifest import Kind, Manifest, write

BASE_FILES = ("config.json", "generation_config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json")
BASE_DATA = (
    "banking77 train (CC-BY-4.0)",
    "clinc150 train (CC-BY-3.0)",
    "nlupp banking (CC-BY-4.0)",
    "bitext customer support (CDLA-Sharing-1.0)",
    "officedocs support articles (CC-BY-4.0)",
    "openshift runbooks (Apache-2.0)",
    "powershell docs, a quarter (CC-BY-4.0)",
    "abcd agent guidelines (MIT)",
    "house-written tickets (Apache-2.0)",
    "vectors of all-MiniLM-L6-v2 as teacher (Apache-2.0)",
)


def publish_base(work: Path, out: Path) -> Manifest:
    """Copy the pre-trained base into the store; its weights are bf16, and its configuration says so."""
    folder = out / BASE
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for name in BASE_FILES:
        shutil.copy(work / "base" / name, folder / name)
    config: dict[str, Any] = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    (folder / "config.json").write_text(json.dumps(config | {"dtype": "bfloat16"}, indent=2) + "\n", encoding="utf-8")
    made = json.loads((work / "base.training.json").read_text(encoding="utf-8"))
    return write(folder, name=BASE, kind=Kind.BASE, license="Apache-2.0", data=BASE_DATA, made=made)


def main(config_path: str) -> None:
    config = yaml.safe_load(Path(config_path).read_text(encoding="utf-8"))
    print(publish_base(Path(config["work"]), Path(config["out"])).full_name)


if __name__ == "__main__":
    main(sys.argv[1])
