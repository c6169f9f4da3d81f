"""Digest of the source code of an agent or reward function, and its name "module:name" if other processes find it."""

import ast
import hashlib
import sys
import sysconfig
from collections.abc import Iterable, Iterator
from functools import cache
from importlib.machinery import ModuleSpec
from pathlib import Path

from ads_gym.imports import object_name

INSTALLED = {"site-packages", "dist-packages"}  # folders of distributions that were installed from a wheel
LIBRARY = tuple(Path(sysconfig.get_path(name)) for name in ("stdlib", "platstdlib"))  # Python's own


def stable_name(value: object) -> str | None:
    """Return "module:name" of a class or function that any process finds there, else None.

    A lambda, a `functools.partial`, a local function or an object with state has no such name, and neither has what was
    typed into an interpreter.
    """
    module = sys.modules.get(getattr(value, "__module__", None) or "")
    found: object = module
    for part in str(getattr(value, "__qualname__", "<nameless>")).split("."):
        found = getattr(found, part, None)
    if found is not value or module is None or _file_of(module.__name__) is None:
        return None
    return object_name(value)


def source_digest(value: object, name: str | None = None) -> str | None:
    """Return a digest of the source of an object's module and of all modules that it imports, directly or not.

    Where the object was found by a name "module:name", that module counts too.

    Left out is what is installed from a wheel, and Python's own library; an editable installation is source. None where
    nothing is left.
    """
    module = getattr(value, "__module__", None) or type(value).__module__
    _find.cache_clear()  # files may have come or gone since
    files = _sources([module, name.partition(":")[0]] if name else [module])
    if not files:
        return None
    digest = hashlib.sha256()
    for file in sorted(files):
        digest.update(hashlib.sha256(file.read_bytes()).digest())
    return digest.hexdigest()


def _sources(names: Iterable[str]) -> set[Path]:
    """Source files of modules and of what they import."""
    found: set[Path] = set()
    seen, waiting = set(names), list(names)
    while waiting:
        module = waiting.pop()
        file = _file_of(module)
        if file is not None and _is_source(file):
            found.add(file)
            new = set(_imports(file, file.stat().st_mtime_ns, module)) - seen
            seen |= new
            waiting += new
    return found


@cache
def _imports(file: Path, _modified: int, module: str) -> tuple[str, ...]:
    """Names of the modules that a file imports, in functions too; a module's packages are among them."""
    try:
        tree = ast.parse(file.read_bytes())
    except (SyntaxError, ValueError):
        return ()
    parents = [module.rpartition(".")[0]] if "." in module else []
    return tuple(dict.fromkeys([*parents, *_imported_names(tree, module, file.name == "__init__.py")]))


def _imported_names(tree: ast.AST, module: str, is_package: bool) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            parts = module.split(".")
            above = parts[: len(parts) - node.level + is_package] if node.level else []
            base = ".".join([*above, *([node.module] if node.module else [])])
            yield base
            yield from (f"{base}.{alias.name}" for alias in node.names)  # which may be modules


def _file_of(module: str) -> Path | None:
    """The file of a module, found without importing anything. None for what has no file."""
    if module == "__main__":
        file = getattr(sys.modules["__main__"], "__file__", None)
        return None if file is None else Path(file)
    top = module.partition(".")[0]
    if top in sys.stdlib_module_names:
        return None
    origin = _origin(_find(top))
    if top == module or (origin is not None and not _is_source(origin)):  # of a wheel its top is enough
        return origin
    return _origin(_find(module))


@cache
def _find(module: str) -> ModuleSpec | None:
    """What the import system knows of a module; None where there is none, as in `from module import name`."""
    parent, places = module.rpartition(".")[0], None
    if parent:
        package = _find(parent)
        if package is None or package.submodule_search_locations is None:
            return None
        places = list(package.submodule_search_locations)
    for finder in sys.meta_path:
        try:
            spec: ModuleSpec | None = finder.find_spec(module, places)
        except (ImportError, AttributeError):  # a finder that blocks a module, or one of the old kind
            continue
        if spec is not None:
            return spec
    return None


def _origin(spec: ModuleSpec | None) -> Path | None:
    origin = None if spec is None else spec.origin
    return Path(origin) if origin and Path(origin).suffix == ".py" else None


def _is_source(file: Path) -> bool:
    """Whether a file belongs to no wheel and not to Python's own library."""
    return INSTALLED.isdisjoint(file.parts) and not any(file.is_relative_to(folder) for folder in LIBRARY)
