"""Objects from "module:name", and optional packages with the line that installs them."""

import importlib
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

from ads_gym.errors import InvalidValue, MissingPackage, NotFound, unknown_name


def import_object(spec: str, what: str) -> Any:
    """What `spec` = "module:name" names; the current folder is looked in too.

    Args:
        spec: an importable module, a colon, a name in it.
        what: the word for it in messages, such as "agent".

    Raises:
        InvalidValue, NotFound, UnknownName: not of that form, no such module, no such name in it.
    """
    module_name, colon, name = spec.partition(":")
    if not (module_name and colon and name) or module_name.startswith("."):
        raise InvalidValue(f"{what} {spec!r} should look like 'module:name'.")
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.append(here)
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name and (module_name == error.name or module_name.startswith(error.name + ".")):
            raise NotFound(f"{what} {spec!r}: there is no module {error.name!r} on the path or in {here}.") from error
        raise
    if not hasattr(module, name):
        raise unknown_name(f"{what} in module {module_name}:", name, [n for n in vars(module) if n[0] != "_"])
    return getattr(module, name)


def object_name(value: object) -> str:
    """What `value` is called as "module:name": a function's or a class's own name, else that of its class."""
    named = value if hasattr(value, "__qualname__") else type(value)
    return f"{named.__module__}:{named.__qualname__}"


def import_package(name: str, install: str) -> ModuleType:
    """The package `name`, or an error that says to run `pip install {install}`.

    Raises:
        MissingPackage: not installed, or installed and broken (torchvision beside another build of torch).
    """
    try:
        return importlib.import_module(name)
    except (ImportError, RuntimeError) as error:
        raise MissingPackage(
            f"this needs {name}, which does not import ({error}). Run: pip install {install}"
        ) from error
