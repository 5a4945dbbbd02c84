"""What may import what, where heavy libraries live, and that an import does no work. Reads the source; imports it in a bare process."""

import ast
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("models", "orchestrator", "serving", "training")
INSIDE = (
    "domain",
    "ports",
    "privacy",
    "autonomy",
    "audit",
    "intake",
    "triage",
    "knowledge",
    "resolution",
    "pipeline",
    "storage",
    "connectors",
    "sandbox",
    "standins",
    "bootstrap",
)

MAY_IMPORT: Mapping[str, frozenset[str]] = {  # our packages, by package
    "models": frozenset({"models"}),
    "orchestrator": frozenset({"models", "orchestrator"}),
    "serving": frozenset({"models", "orchestrator", "serving"}),
    "training": frozenset({"models", "orchestrator", "training"}),
}
MAY_IMPORT_INSIDE: Mapping[str, frozenset[str]] = {  # rooms of the orchestrator, by room; each may import itself
    "domain": frozenset(),
    "ports": frozenset({"domain", "audit"}),
    "standins": frozenset({"domain", "ports", "sandbox"}),  # systems of record in memory: the sandbox's, without its process
    "privacy": frozenset({"domain"}),  # personal data: found and replaced, here and in training
    "autonomy": frozenset({"domain"}),  # may a ticket type act by itself: judged from counts alone
    "audit": frozenset({"domain"}),  # bytes, trees, signatures: the store and the pipeline bring the events
    "intake": frozenset({"domain", "ports"}),
    "triage": frozenset({"domain", "ports"}),
    "knowledge": frozenset({"domain", "ports", "triage", "privacy"}),  # the one guess of a language, the one look for quotations
    "resolution": frozenset({"domain", "ports", "triage", "autonomy", "privacy"}),  # asks as triage does; what it tells is screened
    "storage": frozenset({"domain", "ports", "audit"}),
    "connectors": frozenset({"domain", "ports"}),
    "sandbox": frozenset(),  # a system of its own: it knows nothing of the desk
    "pipeline": frozenset({"domain", "ports", "audit", "autonomy", "intake", "triage", "knowledge", "resolution", "privacy"}),
    "bootstrap": frozenset(INSIDE),
}
HOMES: Mapping[str, tuple[str, ...]] = {  # where a library may be imported: module prefixes
    "ray": ("serving", "training.adapter.distributed"),
    "vllm": ("serving",),
    "sentence_transformers": ("serving", "training"),
    "torch": ("serving", "training"),
    "transformers": ("serving", "training"),
    "peft": ("training",),
    "bitsandbytes": ("training",),
    "sklearn": ("training",),
    "psycopg": ("orchestrator.storage",),
    "psycopg_pool": ("orchestrator.storage",),
    "pgvector": ("orchestrator.storage",),
    "httpx": (
        "orchestrator.connectors",
        "serving.cli",
        "serving.demo",
        "training.evaluation.served",
        "training.promotion",
        "training.feedback",
    ),
    "mcp": ("orchestrator.connectors",),
    "httpx2": ("orchestrator.connectors",),  # what the MCP client speaks HTTP with
    "anyio": ("orchestrator.connectors",),
    "fastapi": ("serving", "orchestrator.sandbox"),
    "starlette": ("serving", "orchestrator.sandbox"),
    "uvicorn": ("serving", "orchestrator.sandbox"),
    "click": ("serving.cli", "training", "models.cli"),
    "rich": ("serving.cli", "training", "models.cli"),
    "jinja2": ("orchestrator.resolution", "serving.gateway", "training"),  # macros, console, reports
}
NEVER = frozenset(
    {"pickle", "dill", "cloudpickle", "joblib", "requests", "aiohttp", "sqlalchemy", "litellm", "langchain", "openai"}
)
RUNS_WHAT_IT_LOADS = re.compile(
    r"trust_remote_code\s*=\s*True|allow_pickle\s*=\s*True|torch\.load\((?!.*weights_only=True)"
    r"|yaml\.(?:unsafe_load|full_load)|yaml\.load\((?!.*Loader=_)|class \w+\(yaml\.(?!SafeLoader|SafeDumper)\w*Loader\)"
)
THIS_MACHINE = re.compile(r"/wor[k]/|/(?:home|Users)/\w+/|py[p]i\.org|python[h]osted|download\.py[t]orch")


@cache
def modules() -> Mapping[str, Path]:
    """Dotted name -> file, of every module that is shipped."""
    found = {}
    for package in PACKAGES:
        for path in sorted((ROOT / package).rglob("*.py")):
            parts = path.relative_to(ROOT).with_suffix("").parts
            found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


@cache
def tree(name: str) -> ast.Module:
    return ast.parse(modules()[name].read_text(encoding="utf-8"))


def imported(name: str, *, at_import: bool = False) -> Iterator[str]:
    """Dotted names that a module imports; `at_import`: only those that its own import carries out."""
    waiting: list[ast.AST] = list(tree(name).body)
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = _base(name, node)
            for alias in node.names:
                whole = f"{base}.{alias.name}"
                yield whole if whole in modules() else base
        elif at_import and (isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda) or _for_types_only(node)):
            continue
        else:
            waiting += ast.iter_child_nodes(node)


def _base(name: str, node: ast.ImportFrom) -> str:
    if not node.level:
        return node.module or ""
    package = name if modules()[name].name == "__init__.py" else name.rpartition(".")[0]
    parts = package.split(".")[: len(package.split(".")) - node.level + 1]
    return ".".join([*parts, node.module] if node.module else parts)


def _for_types_only(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test)


def _top(name: str) -> str:
    return name.partition(".")[0]


def _room(name: str) -> str:
    parts = name.split(".")
    return parts[1] if len(parts) > 1 else ""


# --- who imports whom -----------------------------------------------------------------------------------------------


def test_packages_import_only_those_below_them() -> None:
    wrong = [
        f"{name} imports {other}"
        for name in modules()
        for other in imported(name)
        if _top(other) in PACKAGES and _top(other) not in MAY_IMPORT[_top(name)]
    ]
    assert not wrong, "\n".join(wrong)


def test_rooms_of_the_orchestrator_import_only_those_that_they_know() -> None:
    wrong = [
        f"{name} imports {other}"
        for name in modules()
        if _top(name) == "orchestrator" and _room(name)
        for other in imported(name)
        if _top(other) == "orchestrator" and _room(other) not in MAY_IMPORT_INSIDE.get(_room(name), frozenset()) | {_room(name)}
    ]
    assert not wrong, "\n".join(wrong)


def test_every_room_of_the_orchestrator_is_in_the_table() -> None:
    rooms = {_room(name) for name in modules() if _top(name) == "orchestrator" and _room(name)}
    assert rooms <= set(INSIDE), rooms - set(INSIDE)


@pytest.mark.parametrize("library", sorted(HOMES))
def test_a_heavy_library_is_imported_at_home_only(library: str) -> None:
    wrong = [
        name
        for name in modules()
        if library in {_top(other) for other in imported(name)} and not any(_within(name, home) for home in HOMES[library])
    ]
    assert not wrong, f"{library} is imported by {', '.join(wrong)}; its home is {', '.join(HOMES[library])}"


def _within(name: str, home: str) -> bool:
    return name == home or name.startswith(f"{home}.")


def test_some_libraries_are_imported_nowhere() -> None:
    wrong = [f"{name} imports {other}" for name in modules() for other in imported(name) if _top(other) in NEVER]
    assert not wrong, "\n".join(wrong)


def test_no_modules_import_each_other_in_a_circle() -> None:
    graph = {
        name: {other for other in imported(name, at_import=True) if other in modules() and other != name} for name in modules()
    }
    try:
        tuple(TopologicalSorter(graph).static_order())
    except CycleError as error:
        pytest.fail(" <- ".join(error.args[1]))


# --- what an import does --------------------------------------------------------------------------------------------

BARE = """
import importlib, os, socket, subprocess, sys, threading

import {preload}

def refuse(*given, **named):
    raise AssertionError("an import connects or starts something")

class Trapped(dict):
    def __getitem__(self, name):
        return self._trap(dict.__getitem__, name)
    def get(self, *given):
        return self._trap(dict.get, *given)
    def __contains__(self, name):
        return self._trap(dict.__contains__, name)
    def _trap(self, way, *given):
        frame = sys._getframe(2)
        while frame and frame.f_code.co_filename.endswith(("/os.py", "<frozen os>")):
            frame = frame.f_back
        if frame and any(frame.f_code.co_filename.startswith({root!r} + "/" + package + "/") for package in {packages!r}):
            raise AssertionError("an import reads the environment: " + repr(given[0]))
        return way(self, *given)

before = set(threading.enumerate())
socket.socket.connect = socket.socket.bind = socket.create_connection = socket.getaddrinfo = refuse
subprocess.Popen.__init__ = os.system = os.fork = os.posix_spawn = refuse
os.environ = Trapped(os.environ)
for name in {names!r}:
    importlib.import_module(name)
assert set(threading.enumerate()) == before, "an import starts a thread"
print(sorted(name for name in {heavy!r} if name in sys.modules))
"""


@pytest.mark.parametrize("package", ["models", "orchestrator"])
def test_an_import_connects_nothing_starts_nothing_and_reads_no_environment(package: str) -> None:
    """Libraries may read the environment, also while our classes are made; we may not."""
    names = [name for name in modules() if _top(name) == package and not name.endswith("__main__")]
    outside = sorted(
        {other for name in names for other in imported(name, at_import=True) if _top(other) not in PACKAGES}
        | {"encodings.idna", "unicodedata", "email.mime.text", "multiprocessing", "concurrent.futures.thread"}
    )
    heavy = ["ray", "vllm", "torch", "transformers", "sentence_transformers", "sklearn", "httpx", "psycopg"]
    program = BARE.format(preload=", ".join(outside), names=names, heavy=heavy, root=str(ROOT), packages=PACKAGES)
    ran = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)
    assert ran.returncode == 0, ran.stderr[-3000:]
    allowed = {"httpx", "psycopg"} if package == "orchestrator" else set()
    assert set(ast.literal_eval(ran.stdout)) <= allowed, ran.stdout


def test_nothing_is_called_for_its_effect_as_a_module_is_imported() -> None:
    """At the top of a module stand definitions. A bare call there is work."""
    allowed = {"serving.vllm_plugin"}
    wrong = [
        f"{name}:{node.lineno}"
        for name in modules()
        if name not in allowed
        for node in tree(name).body
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Call | ast.Await)
    ]
    assert not wrong, wrong


def test_no_module_reads_the_environment_at_its_top() -> None:
    wrong = [
        f"{name}:{node.lineno}"
        for name in modules()
        for statement in tree(name).body
        if not isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)
        and not (isinstance(statement, ast.If) and "__main__" in ast.dump(statement.test))
        for node in ast.walk(statement)
        if isinstance(node, ast.Attribute) and node.attr in {"environ", "getenv"}
    ]
    assert not wrong, wrong


# --- how modules look -----------------------------------------------------------------------------------------------


def test_every_module_says_what_it_knows() -> None:
    silent = [name for name, path in modules().items() if path.stat().st_size and not ast.get_docstring(tree(name))]
    assert not silent, silent


def test_every_public_function_is_annotated() -> None:
    bare = [
        f"{name}:{node.lineno} {node.name}"
        for name in modules()
        for node in ast.walk(tree(name))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and not node.name.startswith("_") and not _annotated(node)
    ]
    assert not bare, "\n".join(bare)


def _annotated(node: ast.FunctionDef | ast.AsyncFunctionDef) -> bool:
    arguments = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
    named = [argument for argument in arguments if argument.arg not in {"self", "cls"}]
    return node.returns is not None and all(argument.annotation is not None for argument in named)


def test_no_module_runs_code_out_of_a_file_that_it_loads() -> None:
    wrong = [
        f"{name}: {found.group()}" for name, path in modules().items() if (found := RUNS_WHAT_IT_LOADS.search(path.read_text()))
    ]
    assert not wrong, "\n".join(wrong)


@cache
def tracked() -> tuple[Path, ...]:
    """Text files of the project, as git lists them."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=False)
    if listed.returncode:
        pytest.skip("not a git checkout: the project's files cannot be listed")
    suffixes = {
        ".py",
        ".md",
        ".toml",
        ".yaml",
        ".yml",
        ".sql",
        ".json",
        ".jsonl",
        ".txt",
        ".in",
        ".html",
        ".css",
        ".js",
        ".cfg",
        "",
    }
    paths = [ROOT / name for name in listed.stdout.decode().split("\0") if name]
    return tuple(path for path in paths if path.suffix in suffixes and path.is_file())


def test_nothing_names_this_machine_or_a_package_registry() -> None:
    wrong = []
    for path in tracked():
        try:
            found = THIS_MACHINE.search(path.read_text(encoding="utf-8"))
        except UnicodeDecodeError:
            continue
        if found:
            wrong.append(f"{path.relative_to(ROOT)}: {found.group()}")
    assert not wrong, "\n".join(wrong)


def test_every_test_directory_is_known() -> None:
    known = {"unit", "integration", "serving", "acceptance", "manifests", "gpu", "benchmarks", "tau"}
    there = {path.name for path in (ROOT / "tests").iterdir() if path.is_dir() and path.name != "__pycache__"}
    assert there <= known, there - known
