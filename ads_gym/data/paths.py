"""Where trained tasks and data sets lie on this computer: $ADS_GYM_HOME, $ADS_GYM_DATA."""

import os
import sys
from pathlib import Path

from ads_gym.errors import StorageError
from ads_gym.files import resolve

HOME_VARIABLE = "ADS_GYM_HOME"
DATA_VARIABLE = "ADS_GYM_DATA"


def home() -> Path:
    """`$ADS_GYM_HOME`, or `ads-gym` in the folder where this platform keeps programs' data.

    Raises:
        StorageError: the user has no home folder.
    """
    if given := os.environ.get(HOME_VARIABLE):
        return resolve(given)
    try:
        return resolve(_platform_folder()) / "ads-gym"
    except StorageError as error:
        raise StorageError(f"this user has no home folder for tasks and data: set {HOME_VARIABLE} or HOME.") from error


def _platform_folder() -> str:
    if sys.platform == "win32":
        return os.environ.get("LOCALAPPDATA") or "~/AppData/Local"
    if sys.platform == "darwin":
        return "~/Library/Application Support"
    return os.environ.get("XDG_DATA_HOME") or "~/.local/share"


def tasks_home() -> Path:
    """Where a task trained by its name is written, and where `task=NAME` looks."""
    return home() / "tasks"


def find_data_root(data_root: Path | str | None = None) -> Path:
    """The folder with the data sets: `data_root`, else `$ADS_GYM_DATA`, else `data` under `home()`."""
    given = os.environ.get(DATA_VARIABLE) if data_root is None else data_root
    return home() / "data" if given is None or (isinstance(given, str) and not given) else resolve(given)
