"""A hash of the code that a rule runs, so that changed code reruns what it made and no more."""

import ast
import hashlib
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple

from vtclip.paths import METHODS, PACKAGE

LEFT_OUT = {"vtclip.cost"}  # requests to a scheduler change nothing that a job makes


@cache
def code_hash(script: str | Path, *modules: str) -> str:
    """Hash a script with all that it imports from this package, and modules that it loads by name.

    The structure counts, not the text: comments, docstrings and formatting change nothing.
    """
    for module in modules:
        if _find(module) is None:
            raise ModuleNotFoundError(f"No module '{module}' below {PACKAGE}.")
    read = _read(Path(script))
    digest = hashlib.sha256(read.structure.encode())
    reached: dict[str, _Module] = {}
    waiting = [*read.imports, *modules]
    while waiting:
        module = waiting.pop()
        path = _find(module)
        if path is not None and module not in reached.keys() | LEFT_OUT:
            reached[module] = _read(path)
            waiting += reached[module].imports
    for module in sorted(reached):
        digest.update(f"\0{module}\0{reached[module].structure}".encode())
    return digest.hexdigest()[:16]


class _Module(NamedTuple):
    structure: str  # the code as Python would write it: the same for any comments and formatting
    imports: tuple[str, ...]  # names that may be modules of the package, in its functions too


@cache
def _read(path: Path) -> _Module:
    tree = _Strip().visit(ast.parse(path.read_text(encoding="utf-8")))
    return _Module(ast.unparse(tree), tuple(_list_imports(tree)))


class _Strip(ast.NodeTransformer):
    """Removes code that does not run: docstrings, and imports for the type checker."""

    def visit_Expr(self, node: ast.Expr) -> ast.AST | None:
        is_text = isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
        return None if is_text else node

    def visit_If(self, node: ast.If) -> ast.AST | None:
        if isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
            return None
        return self.generic_visit(node)


def _list_imports(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            # `from vtclip.data import shots` may name a module or something inside one.
            yield from (node.module, *(f"{node.module}.{alias.name}" for alias in node.names))


def _find(module: str) -> Path | None:
    """File of a module of this package, or beside a user's method; None for any other name."""
    package, *parts = module.split(".")
    if package != "vtclip" or not parts:
        return None
    stems = [PACKAGE.joinpath(*parts)]
    if parts[0] == "methods":
        stems.append(Path(METHODS, *parts[1:]))
    files = (file for stem in stems for file in (stem.with_suffix(".py"), stem / "__init__.py"))
    return next((file for file in files if file.is_file()), None)
