"""The models that came with this installation: `models/store/<name>/`. Knows folders and manifests only."""

from pathlib import Path

from models.manifest import MANIFEST_FILE, Manifest, ModelRefused, read, verify

STORE = Path(__file__).parent / "store"
BASE = "cloister-nano"
ADAPTER = "triage"


def installed(store: Path = STORE) -> list[Manifest]:
    """The manifests in a store, by name; files are not looked at."""
    return [read(path.parent) for path in sorted(store.glob(f"*/{MANIFEST_FILE}"))]


def open_verified(name: str, *, store: Path = STORE) -> tuple[Path, Manifest]:
    """Folder and manifest of a model, every file checked. `name` is a plain name or a full `name@sha256-...`.

    Raises ModelRefused when there is no such model or its files are not what the manifest says.
    """
    plain = name.partition("@")[0]
    folder = store / plain
    if not plain or Path(plain).name != plain or not folder.is_dir():
        known = ", ".join(manifest.name for manifest in installed(store)) or "none"
        raise ModelRefused(
            f"there is no model {name!r} in {store} (there is: {known}). Import it, or mend the name in the settings."
        )
    return folder, verify(folder, expect=name if "@" in name else None)
