"""Digest of the source code of an agent or reward function, and its name "module:name" if other processes find it."""

import ast
import hashlib
import os
import struct
import sys
import sysconfig
from collections.abc import Iterable, Iterator
from functools import cache
from importlib.machinery import ModuleSpec
from importlib.metadata import packages_distributions, version
from pathlib import Path

from ads_gym.errors import InvalidValue
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

    Where the object was found by a name "module:name", that module counts too. Left out is what is installed from a
    wheel (an editable installation is source), Python's own library, and what is imported by a name that the source
    does not spell out. None where nothing is left.

    Raises:
        InvalidValue: a file was changed after it was imported: then its digest is not that of the code in memory.
    """
    _find.cache_clear()  # files may have come or gone since
    found = _sources({_module_of(value), *([name.partition(":")[0]] if name else [])})
    if not found:
        return None
    digests = {file: hashlib.sha256(file.read_bytes()).digest() for file in found.values()}
    for module, file in found.items():
        _check_unchanged(module, file, digests[file])
    return hashlib.sha256(b"".join(sorted(digests.values()))).hexdigest()  # wherever the files are


def wheel_version(value: object) -> str | None:
    """Return name and version of the distribution that an object's module was installed from; None for ads-gym's."""
    top = _module_of(value).partition(".")[0]
    if top == "ads_gym" or top in sys.stdlib_module_names:
        return None
    names = sorted(set(packages_distributions().get(top, [])))
    return ", ".join(f"{name} {version(name)}" for name in names) or None


def _module_of(value: object) -> str:
    """Name of the module that an object was made in; of a program that runs as `python -m name`, that name."""
    module: str = getattr(value, "__module__", None) or type(value).__module__
    spec = getattr(sys.modules.get("__main__"), "__spec__", None)
    return spec.name if module == "__main__" and spec is not None else module


_seen: dict[str, tuple[ModuleSpec | None, bytes]] = {}  # by module, as it was imported


def _check_unchanged(module: str, file: Path, digest: bytes) -> None:
    """Check that a module in memory is what its file says, as far as this process can know.

    A module that is imported anew or reloaded has a new spec. Before this process saw it first, the header of its
    compiled file says when the source was changed last.
    """
    loaded = sys.modules.get(module)
    if loaded is None or module.partition(".")[0] == "ads_gym":
        return
    spec, status = loaded.__spec__, file.stat()
    known = _seen.get(module)
    if known is not None and known[0] is spec:
        is_old = known[1] != digest
    else:
        is_old = _compiled_before(spec, int(status.st_mtime), status.st_size)
        _seen[module] = spec, digest
    if is_old:
        raise InvalidValue(
            f"{file} was changed after it was imported, so the code in memory is not what it says: start Python anew, "
            "or reload the module (importlib.reload)."
        )


def _compiled_before(spec: ModuleSpec | None, mtime: int, size: int) -> bool:
    """Whether the compiled file was made by this process's import from another state of the source."""
    if spec is None or spec.cached is None or sys.dont_write_bytecode or not os.access(Path(spec.cached), os.W_OK):
        return False
    header = Path(spec.cached).read_bytes()[:16]  # magic number, flags, time and size of the source: see PEP 552
    return header[4:8] == bytes(4) and header[8:] != struct.pack("<II", mtime & 0xFFFFFFFF, size & 0xFFFFFFFF)


def _sources(names: Iterable[str]) -> dict[str, Path]:
    """Source files of modules and of what they import, by module."""
    found: dict[str, Path] = {}
    seen, waiting = set(names), list(names)
    while waiting:
        module = waiting.pop()
        file = _file_of(module)
        if file is not None and _is_source(file):
            found[module] = file
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
