"""A hash of the code that a rule runs, so that changed code reruns what it made and no more."""

import ast
import hashlib
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path

PACKAGE = Path(__file__).parents[1]
ASKS = {"vtclip.cost"}  # what a job asks a scheduler for changes nothing that it makes


@cache
def code_hash(script: str | Path, *modules: str) -> str:
    """Hash a script with all that it imports from this package.

    The structure counts, not the text: comments, docstrings and formatting change nothing.

    Args:
        script: a file that calls functions of this package.
        modules: dotted names of modules that it loads by name, such as the chosen method's.

    Returns:
        16 hexadecimal digits.

    Raises:
        ModuleNotFoundError: a name that is no module of this package.
    """
    digest = hashlib.sha256(_structure(Path(script)).encode())
    for module in sorted(_reach([*_imports(Path(script)), *modules])):
        digest.update(f"\0{module}\0{_structure(_find(module))}".encode())
    return digest.hexdigest()[:16]


def _reach(modules: Iterable[str]) -> set[str]:
    """These modules and all that they import from the package, in their functions too."""
    reached: set[str] = set()
    waiting = list(modules)
    while waiting:
        module = waiting.pop()
        if module not in reached | ASKS:
            reached.add(module)
            waiting += _imports(_find(module))
    return reached


class _Strip(ast.NodeTransformer):
    """Takes away what does not run: docstrings, and imports for the type checker."""

    def visit_Expr(self, node: ast.Expr) -> ast.AST | None:
        is_text = isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
        return None if is_text else node

    def visit_If(self, node: ast.If) -> ast.AST | None:
        if isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
            return None
        return self.generic_visit(node)


@cache
def _parse(path: Path) -> ast.Module:
    return _Strip().visit(ast.parse(path.read_text(encoding="utf-8")))


@cache
def _structure(path: Path) -> str:
    """The code as Python would write it: the same for any comments and any formatting."""
    return ast.unparse(_parse(path))


@cache
def _imports(path: Path) -> tuple[str, ...]:
    """The package's modules that a file imports, inside its functions too."""
    return tuple(sorted(set(_imported_names(_parse(path)))))


def _imported_names(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            # `from vtclip.data import shots` may name a module or something inside one.
            names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        else:
            continue
        yield from (name for name in names if name.startswith("vtclip.") and _exists(name))


def _exists(module: str) -> bool:
    try:
        _find(module)
    except ModuleNotFoundError:
        return False
    return True


@cache
def _find(module: str) -> Path:
    stem = PACKAGE.parent.joinpath(*module.split("."))
    for path in (stem.with_suffix(".py"), stem / "__init__.py"):
        if path.is_file():
            return path
    raise ModuleNotFoundError(f"No module '{module}' below {PACKAGE}.")
