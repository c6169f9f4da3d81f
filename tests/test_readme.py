"""What the README says can be typed, can be typed."""

import re
import shlex
from pathlib import Path

import pytest
from commands import run_here

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
SHELL = "\n".join(re.findall(r"```sh\n(.*?)```", README, re.DOTALL))
PYTHON = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
COMMANDS = sorted({line for line in SHELL.splitlines() if line.startswith("ads-gym")})


def test_the_first_command_begins_with_an_environment():
    assert SHELL.startswith("python3 -m venv .venv && ")
    assert SHELL.splitlines()[0].endswith("&& .venv/bin/ads-gym search")


def test_the_test_command_is_found_by_its_mark():
    """As .ci/run finds it."""
    (marked,) = re.findall(r"<!-- test command -->\n```sh\n(.*?)\n```", README)
    assert marked.startswith("python3 -m venv") and marked.endswith("pytest")


@pytest.mark.parametrize("line", COMMANDS)
def test_commands_and_their_options_exist(capsys, monkeypatch, line):
    monkeypatch.setenv("COLUMNS", "200")
    _, command, *arguments = shlex.split(line)
    told = run_here(capsys, command, "--help")
    assert told.code == 0
    for option in (argument for argument in arguments if argument.startswith("--")):
        assert re.search(rf"{option}\b", told.out), f"{command} has no {option}"


def test_its_agents_play(capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    (source,) = (block for block in PYTHON if "def coin" in block)
    (tmp_path / "mine.py").write_text(source)
    for agent in ("mine:coin", "mine:ppo"):
        done = run_here(capsys, "search", "--task", "planted-20", "--agent", agent, "--evaluations", 20)
        assert done.code == 0 and "20 evaluations" in done.out


def test_its_python_compiles_and_its_files_exist():
    for block in PYTHON:
        compile(block, "README.md", "exec")
    for target in re.findall(r"\]\(([^)]*)\)|`(examples/[\w/.]+|[A-Z]+(?:\.cff)?)`", README):
        name = "".join(target)
        if name.startswith("#"):
            assert f"\n## {name[1:].capitalize()}\n" in README
        elif not name.startswith("https://"):
            assert (ROOT / name).exists(), name


def test_its_pictures_are_light():
    pictures = re.findall(r"!\[.*?\]\((.*?)\)", README)
    assert pictures and all((ROOT / picture).stat().st_size < 100_000 for picture in pictures)
