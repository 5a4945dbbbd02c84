"""Every step of the small model, one after another, each in its own process; then its triage models.

python -m training.nano.make training/nano/configs/nano.yaml
"""

import subprocess
import sys

STEPS = (
    ("training.nano.corpus", None),
    ("training.nano.tokenizer", None),
    ("training.nano.teacher", None),
    ("training.triage.split", "training/triage/configs.yaml"),  # pre-training must not see the held-out tickets
    ("training.nano.pretrain", None),
    ("training.nano.publish", None),
    ("training.triage.make", "training/triage/configs.yaml"),
)


def main(config: str) -> None:
    for module, other in STEPS:
        print(f"== {module}", flush=True)
        subprocess.run([sys.executable, "-m", module, other or config], check=True)


if __name__ == "__main__":
    main(sys.argv[1])
