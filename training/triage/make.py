"""Every step of the triage models, one after another, each in its own process.

python -m training.triage.make training/triage/configs.yaml
"""

import subprocess
import sys

STEPS = ("split", "fit_head", "adapter", "fit_cascade", "publish")


def main(config: str) -> None:
    for step in STEPS:
        print(f"== {step}", flush=True)
        subprocess.run([sys.executable, "-m", f"training.triage.{step}", config], check=True)


if __name__ == "__main__":
    main(sys.argv[1])
