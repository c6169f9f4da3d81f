"""Where things lie on this computer: trained tasks and data. Nothing here is created or read, only named."""

import os
import sys
from pathlib import Path

HOME_VARIABLE = "ADS_GYM_HOME"
DATA_VARIABLE = "ADS_GYM_DATA"


def home() -> Path:
    """`$ADS_GYM_HOME`, or `ads-gym` in the folder where this platform keeps programs' data."""
    if given := os.environ.get(HOME_VARIABLE):
        return Path(given).expanduser().absolute()
    if sys.platform == "win32":
        base = Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local")
    elif sys.platform == "darwin":
        base = Path.home() / "Library" / "Application Support"
    else:
        base = Path(os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share")
    return base / "ads-gym"


def tasks_home() -> Path:
    """Where a task trained by its name is written, and where `task=NAME` looks."""
    return home() / "tasks"


def find_data_root(data_root: Path | str | None = None) -> Path:
    """The folder with the data sets: `data_root`, else `$ADS_GYM_DATA`, else `data` under `home()`."""
    given = data_root or os.environ.get(DATA_VARIABLE)
    return Path(given).expanduser().absolute() if given else home() / "data"
