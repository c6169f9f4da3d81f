"""Searches that several processes begin at once: one is played, and the others are told so or find its result."""

import re
import subprocess
import sys
from contextlib import ExitStack

import pytest
from commands import plain_environment, read_manifest, read_rows
from marks import slow

SEARCHER = """
import sys
import ads_gym
from ads_gym.errors import AdsGymError

def fails(env, seed):
    raise AdsGymError("failed")

agent = fails if sys.argv[1] == "fails" else "random"
for line in sys.stdin:
    try:
        ads_gym.search("planted-20", agent, 12, run=line.strip(), progress=False)
        print("searched", flush=True)
    except AdsGymError as error:
        print(error, flush=True)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="locks as POSIX has them")
@pytest.mark.parametrize(
    ("kinds", "rounds"),
    [
        (("random", "random"), 10),
        slow(("random", "random", "random"), 60),
        slow(("random", "fails", "fails"), 60),
    ],
)
def test_searches_begun_at_once_in_a_new_folder(tmp_path, kinds, rounds):
    told = set()
    with ExitStack() as stack:
        searchers = [
            stack.enter_context(
                subprocess.Popen(
                    [sys.executable, "-c", SEARCHER, kind],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    text=True,
                    bufsize=1,
                    env=plain_environment(),
                )
            )
            for kind in kinds
        ]
        for number in range(rounds):
            folder = tmp_path / str(number)
            for searcher in searchers:
                searcher.stdin.write(f"{folder}\n")
            answers = [searcher.stdout.readline().strip().replace(str(folder), "FOLDER") for searcher in searchers]
            told |= set(answers)
            if "searched" in answers:
                assert read_manifest(folder)["result"]["evaluations"] == 12
                assert len(read_rows(folder)) == 12
            else:
                assert "fails" in kinds
        for searcher in searchers:
            searcher.stdin.close()
    allowed = r"searched|another process is searching in FOLDER: wait until it is done, or give another folder\."
    if "fails" in kinds:
        allowed += r"|failed|the folder FOLDER belongs to a run with agent .*"
    assert [answer for answer in told if not re.fullmatch(allowed, answer)] == []
    assert "searched" in told
