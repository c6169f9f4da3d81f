"""How fast everything is, against named rivals, on this machine.

    cd examples && python benchmark_speed.py [--sections evaluator growth ...] [--small]

Sections run one after another; contestants take turns. `speed/NAME.py` has a section's code, that of the rivals too.
Writes results/speed-DEVICE.json and .md here, and a picture of the growth; what is not run again stays as it was. On
one thread unless OMP_NUM_THREADS says otherwise; CUDA_VISIBLE_DEVICES= hides a GPU.
"""

import argparse
import importlib
import json
import os
import time
from dataclasses import asdict
from itertools import groupby
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
import torch

from ads_gym.devices import resolve_device
from ads_gym.runs.folder import circumstances

SECTIONS = {
    "evaluator": "Inherited evaluation against the ways that one would write first",
    "share": "Inherited evaluation's share of the machine",
    "growth": "How the time of inherited evaluation grows",
    "vector": "Environments",
    "agent": "The recurrent agent, learning included",
    "network": "Sparse networks against dense ones",
    "search": "A search on digits, cold",
}
RESULTS = Path("results")
ROW_HEAD = "| what | rival | ours | rival's | times as fast: median (lowest - highest) |"


def run(name: str, small: bool) -> dict:
    """One section: where and when it ran, its tables as Markdown lines, and what they were made of."""
    where = circumstances() | {"device": torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu"}
    where |= {"load before": round(os.getloadavg()[0], 2), "started": time.strftime("%Y-%m-%d %H:%M"), "small": small}
    section = importlib.import_module(f"speed.{name}")
    rows = section.measure(small)
    if name == "growth":
        section.draw(rows, RESULTS / "speed-growth.png")
    lines = []
    for kind, group in groupby(rows, type):
        head = getattr(kind, "HEAD", ROW_HEAD)
        lines += ["", head, "|---" * (head.count("|") - 1) + "|", *(row.line() for row in group)]
    records = [{"kind": type(row).__name__} | asdict(row) for row in rows]
    return {"circumstances": where, "lines": lines, "rows": records}


def text(sections: dict[str, dict]) -> str:
    """All of them as Markdown."""
    lines = ["# Speed", "", "By `examples/benchmark_speed.py`; every repeat is in the .json beside this file."]
    for name in (name for name in SECTIONS if name in sections):
        told = ", ".join(f"{key} {value}" for key, value in sections[name]["circumstances"].items())
        lines += ["", f"## {SECTIONS[name]}", *sections[name]["lines"], "", f"{told}."]
    return "\n".join([*lines, ""])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sections", nargs="+", choices=SECTIONS, default=list(SECTIONS), metavar="NAME")
    parser.add_argument("--small", action="store_true", help="seconds in all, to see that it runs")
    args = parser.parse_args()
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"speed-{resolve_device().type}.json"
    sections = json.loads(path.read_text()) if path.exists() else {}
    for name in args.sections:
        sections[name] = run(name, args.small)
        print(f"\n## {SECTIONS[name]}", *sections[name]["lines"], sep="\n", flush=True)
        path.write_text(json.dumps(sections, indent=1) + "\n")
        path.with_suffix(".md").write_text(text(sections))


if __name__ == "__main__":
    main()
