"""What runs in an agent's own process, from its first line to its last."""

import os
import pickle
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Sequence
from multiprocessing import parent_process
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import ads_gym
from ads_gym.agents import base
from ads_gym.agents.registry import LoadedAgent, find_agent
from ads_gym.errors import AdsGymError
from ads_gym.limits import allow_large
from ads_gym.runs.driving import drive
from ads_gym.runs.open_run import Job
from ads_gym.runs.remote import Link, Terms, remote_problem

MOST_FRAMES = 30  # of a traceback that is told
MOST_TEXT = 20_000  # characters of it
_OURS = tuple(f"{Path(str(module.__file__)).parent}{os.sep}" for module in (ads_gym, base))  # the package; its agents


def main(connection: "Connection[Any, Any]") -> None:
    """Play, and tell how it ended.

    Args:
        connection: to the process that searches.
    """
    _leave()
    link = Link(connection)
    try:
        seconds = _play(link)
    except BaseException as error:  # a SystemExit is an agent's mistake too
        kind = type(error).__name__ if isinstance(error, AdsGymError) else None
        link.tell("raised", kind=kind, message=str(error)[:MOST_TEXT], traceback=told(error))
    else:
        link.tell("ended", seconds=seconds)


def _play(link: Link) -> float:
    """Let the agent play; return the seconds of CPU that it took. What it waits for is computed elsewhere."""
    terms: Terms = pickle.loads(link.ask("terms"))
    _use_threads(terms.threads)
    with allow_large(terms.large):
        agent = terms.agent if isinstance(terms.agent, LoadedAgent) else find_agent(terms.agent)
        problem, evaluator = remote_problem(link, terms)
        began = time.process_time()
        drive(Job(problem, agent, terms.options, terms.decision, terms.seed), evaluator, _asking_where(link))
        return time.process_time() - began


def _asking_where(link: Link) -> Callable[[], Path]:
    """What asks for the path of the trained policy: the only one of the run's that an agent hears of, and the last."""
    return lambda: Path(link.ask("policy"))


def _leave() -> None:
    """Stand apart: of Ctrl-C, which is the parent's, and of its arguments; and end when the parent does."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if hasattr(os, "setsid"):
        os.setsid()  # so that what the agent starts ends with it
    del sys.argv[1:]
    threading.Thread(target=_end_with_parent, name="ads-gym", daemon=True).start()


def _end_with_parent() -> None:
    """Wait for the parent's end, however it comes, and end this process and what it started."""
    parent = parent_process()
    if parent is not None:
        parent.join()
        if hasattr(os, "killpg"):
            os.killpg(os.getpid(), signal.SIGKILL)
        os._exit(1)


def _use_threads(count: int | None) -> None:
    """Have torch use as many threads as where the agent would play without a time limit: so it adds in one order."""
    if count is None:
        return
    os.environ["OMP_NUM_THREADS"] = str(count)  # read when torch is imported
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(count)


def told(error: BaseException) -> str:
    """A traceback as text: frames of the agent, from its first to its last, without those of ours around them.

    Empty for an error of ours that no agent's frame led to.
    """
    found = traceback.TracebackException.from_exception(error)
    if isinstance(error, AdsGymError) and all(_is_ours(frame.filename) for frame in found.stack):
        return ""
    part: traceback.TracebackException | None = found
    while part is not None:
        part.stack[:] = agents_frames(part.stack)[-MOST_FRAMES:]
        part = part.__cause__ or (None if part.__suppress_context__ else part.__context__)
    return "".join(found.format())[-MOST_TEXT:]


def agents_frames(frames: Sequence[traceback.FrameSummary]) -> Sequence[traceback.FrameSummary]:
    """The frames from the first to the last that is in no code of ours; all of them where there is none."""
    places = [place for place, frame in enumerate(frames) if not _is_ours(frame.filename)]
    return frames[places[0] : places[-1] + 1] if places else frames


def _is_ours(file: str) -> bool:
    """Whether a file is of this package, and of no agent in it; or of what passes its calls on."""
    package, agents = _OURS
    if file.startswith(agents):
        return False
    return (
        file.startswith((package, "<frozen "))
        or {"gymnasium", "pydantic", "multiprocessing"} & set(Path(file).parts) != set()
    )
