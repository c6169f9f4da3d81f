"""A process that reads spoilt files, with limits on its memory and on the time of each case.

    python child.py GOOD PLACE FIRST LAST SKIP KIND ...

reads the cases FIRST to LAST of some kinds, less the SKIP first of them. It says which case it begins, and which ended
in anything but success or one AdsGymError.
"""

import os
import resource
import signal
import sys
import warnings
from contextlib import contextmanager
from pathlib import Path

import torch
from kinds import KINDS, cases, describe, spoil

from ads_gym.errors import AdsGymError

MEMORY = 2**30  # bytes, over what the process has before a case
SECONDS = 10  # a case
MAX_MESSAGE = 2_000  # characters


def read_good(good, place, kinds):
    """Read one good file of each kind, so that all is imported."""
    for kind in kinds:
        spoil(kind, None, good, place)
        KINDS[kind][2](place)


@contextmanager
def limits():
    """On the memory and the time of the block: of what reads, and not of what spoils."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    _, most = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (pages * os.sysconf("SC_PAGE_SIZE") + MEMORY, most))
    signal.alarm(SECONDS)
    try:
        yield
    finally:
        signal.alarm(0)
        resource.setrlimit(resource.RLIMIT_AS, (most, most))


def main(good, place, chosen, kinds):
    warnings.simplefilter("ignore")
    read_good(good, place, kinds)
    for number, (kind, seed) in chosen:
        print("case", number, kind, seed, flush=True)
        spoil(kind, seed, good, place)
        try:
            with limits():
                KINDS[kind][2](place)
        except AdsGymError as error:
            if len(str(error)) > MAX_MESSAGE or not isinstance(error, ValueError | OSError | TypeError):
                print("fault", kind, seed, describe(error), flush=True)
        except BaseException as error:
            print("fault", kind, seed, describe(error), flush=True)
    print("end", flush=True)


if __name__ == "__main__":
    torch.set_num_threads(1)
    good, place, first, last, skip, *kinds = sys.argv[1:]
    chosen = list(enumerate(cases(kinds, int(first), int(last))))[int(skip) :]
    main(Path(good), Path(place), chosen, kinds)
