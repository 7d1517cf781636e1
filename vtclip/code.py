"""A hash of the code that a rule runs, so that changed code reruns what it made and no more."""

import ast
import hashlib
from collections.abc import Iterator
from functools import cache
from pathlib import Path

PACKAGE = Path(__file__).parent


def code_hash(*modules: str, script: str | Path | None = None) -> str:
    """Hash modules of this package with all that they import from it, and a script.

    The content counts, not the time: a file written again with the same content changes nothing.

    Args:
        modules: dotted names, such as "vtclip.training.train".
        script: a file that calls them, hashed as well.

    Returns:
        16 hexadecimal digits.

    Raises:
        ModuleNotFoundError: a name that is no module of this package.
    """
    digest = hashlib.sha256()
    reached: set[str] = set()
    waiting = list(modules)
    while waiting:
        module = waiting.pop()
        if module not in reached:
            reached.add(module)
            waiting += _imports(module)
    for module in sorted(reached):
        digest.update(module.encode() + b"\0" + _find(module).read_bytes())
    if script is not None:
        digest.update(Path(script).read_bytes())
    return digest.hexdigest()[:16]


@cache
def _imports(module: str) -> tuple[str, ...]:
    """The package's modules that `module` imports, inside its functions too."""
    tree = ast.parse(_find(module).read_text(encoding="utf-8"))
    return tuple(sorted(set(_imported_names(tree))))


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
