"""Modules import only from folders before their own, and never in a circle."""

import ast
from collections import defaultdict
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "vtclip"
# Modules at the top of the package come before all folders, except the command itself.
FOLDERS = (
    "config", "runtime", "backbones", "data", "features", "nn", "methods", "training", "plan",
    "results", "inference", "cli", "__main__", "demo",
)  # fmt: skip


def name_module(path: Path) -> str:
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def running_nodes(tree: ast.AST) -> Iterator[ast.AST]:
    """All nodes but those that only the type checker reads."""
    for node in ast.iter_child_nodes(tree):
        if not (isinstance(node, ast.If) and getattr(node.test, "id", "") == "TYPE_CHECKING"):
            yield node
            yield from running_nodes(node)


def imported_modules(path: Path, modules: set[str]) -> set[str]:
    """The modules of the package that a module imports, in its functions too."""
    found = set()
    for node in running_nodes(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module:
            inside = {f"{node.module}.{alias.name}" for alias in node.names} & modules
            found |= inside or {node.module}
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
    return (found & modules) - {name_module(path)}


@pytest.fixture(scope="module")
def graph() -> dict[str, set[str]]:
    """Module -> the modules that it imports."""
    paths = {name_module(path): path for path in PACKAGE.rglob("*.py")}
    graph = {name: imported_modules(path, set(paths)) for name, path in paths.items()}
    assert graph["vtclip.__main__"] >= {"vtclip", "vtclip.cli.status"}
    return graph


def layer(module: str) -> int:
    """Number of a module's folder; 0 for a module at the top of the package."""
    folder = [*module.split("."), ""][1]
    is_top = not (PACKAGE / folder).is_dir() and folder != "__main__"
    return 0 if is_top or not folder else 1 + FOLDERS.index(folder)


def test_no_module_imports_from_a_folder_after_its_own(graph):
    upwards = [
        f"{module} imports {other}"
        for module, others in graph.items()
        for other in others
        if layer(other) > layer(module)
    ]
    assert upwards == []


def test_no_module_imports_itself_by_way_of_others(graph):
    try:
        list(TopologicalSorter(graph).static_order())
    except CycleError as error:
        raise AssertionError(f"a circle of imports: {' -> '.join(error.args[1])}") from None


def test_no_two_modules_have_the_same_file_name():
    places = defaultdict(list)
    for path in PACKAGE.rglob("*.py"):
        if path.stem not in ("__init__", "__main__"):
            places[path.name].append(str(path.relative_to(PACKAGE)))
    assert [paths for paths in places.values() if len(paths) > 1] == []
