"""The bundled triage model by the general recipe (`training.fit`): house-written tickets in, `models/store/triage` out.

    python -m training.triage.split training/triage/configs.yaml
    python -m training.triage.make training/triage/configs.yaml

Knows folders; fits nothing itself.
"""

import shutil
import sys
from pathlib import Path

import numpy as np
import yaml
from rich.console import Console

from models.local import ADAPTER, BASE, open_verified
from models.registry import Registry
from orchestrator.triage.taxonomy import load_taxonomy
from training.fit.recipe import read_recipe
from training.fit.run import FitRequest, fit
from training.fit.work import open_work
from training.progress import Steps
from training.triage.desk import desk_dataset
from training.triage.split import load_split

DATA = (
    "house-written tickets (Apache-2.0)",
    "banking77, mapped intents (CC-BY-4.0)",
    "clinc150, mapped intents and out of scope (CC-BY-3.0)",
    "bitext, mapped intents (CDLA-Sharing-1.0)",
)


def main(config_path: str) -> None:
    config = yaml.safe_load(Path(config_path).read_text(encoding="utf-8"))
    work, store = Path(config["work"]), Path(config["store"])
    taxonomy = load_taxonomy(Path(config["taxonomy"]))
    rows, held_out = load_split(work)
    dataset = desk_dataset(
        rows, held_out, np.load(work / "vectors.npy"), rewrites=config["rewrites"], classes=taxonomy.names, seed=config["seed"]
    )
    recipe = read_recipe(config["recipe"], seed=config["seed"])
    registry = Registry(work / "registry", store=store)
    say = Console(stderr=True)
    belongs = {"recipe": recipe.record(), "source": {"dataset": dataset.digest, "base": str(store)}}
    with Steps() as progress, open_work(work / "fit", restart=False, **belongs) as folder:
        made = fit(
            FitRequest(
                name=ADAPTER,
                dataset=dataset,
                recipe=recipe,
                base=open_verified(BASE, store=store)[0],
                registry=registry,
                work=folder,
                company=taxonomy,
                license="Apache-2.0",
                data=DATA,
            ),
            say=lambda sentence: say.print(sentence, highlight=False),
            progress=progress,
        )
    bundled = store / ADAPTER
    shutil.rmtree(bundled, ignore_errors=True)
    shutil.copytree(made.folder, bundled)
    print(made.full_name)


if __name__ == "__main__":
    main(sys.argv[1])
