"""From a downloaded folder to a model: its data files alone, with a manifest. Knows what may lie in a model; loads nothing.

For bases and sentence encoders that come without our manifest. Documents and files that could be run are left behind, and said.
"""

from pathlib import Path

from models.inspection import ALLOWED_SUFFIXES, CHAT_TEMPLATE, FILE_NAME
from models.manifest import BESIDE, Kind, Manifest, ModelRefused, write
from models.registry import Progress, copy_file


def take_stock(
    source: Path, target: Path, *, name: str, kind: Kind, license: str, progress: Progress | None = None
) -> tuple[Manifest, list[str]]:
    """Copy what may be in a model of this kind, write the manifest; gives it and the names that were left behind.

    Raises ModelRefused when the folder has a manifest of its own, holds links, or the copied files cannot be a model.
    """
    if not source.is_dir():
        raise ModelRefused(f"{source} is refused: it is not a folder.")
    paths = sorted(source.iterdir())
    if any(path.name in BESIDE for path in paths):
        raise ModelRefused(f"{source} has a manifest already. Import it without --as; its name is part of it.")
    links = [path.name for path in paths if path.is_symlink()]
    if links:
        raise ModelRefused(f"{source} is refused: {links[0]} is a symbolic link. Copy the files themselves.")
    taken = [path for path in paths if path.is_file() and _is_data(path, kind)]
    target.mkdir(parents=True)
    for path in taken:
        copy_file(path, target / path.name, progress=progress)
    manifest = write(target, name=name, kind=kind, license=license, made={"imported": True})
    return manifest, [path.name for path in paths if path not in taken]


def _is_data(path: Path, kind: Kind) -> bool:
    known = path.suffix in ALLOWED_SUFFIXES or (kind is Kind.BASE and path.name == CHAT_TEMPLATE)
    return bool(FILE_NAME.fullmatch(path.name)) and known
