"""Imports go down from layer to layer and never in a circle."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
LAYERS = [  # of modules and packages, from the top; a layer imports from those below it, and within a package
    {"cli"},
    {"runs"},
    {"agents"},
    {"envs"},
    {"supernet_training"},
    {"problem"},
    {"objective"},
    {"tasks"},
    {"evaluators"},
    {"nets"},
    {"data"},
    {"architecture", "database"},
    {"topology", "devices", "torch_state"},
    {"files", "tables"},
    {"imports"},
    {"errors"},
]
LEVEL = {name: -level for level, names in enumerate(LAYERS) for name in names}


def modules():
    """Dotted name -> file, of everything that is installed."""
    found = {}
    for folder, package in ((ROOT / "ads_gym", "ads_gym"), (ROOT / "agents", "ads_gym.agents")):
        for file in folder.rglob("*.py"):
            parts = file.relative_to(folder).with_suffix("").parts
            found[".".join([package, *(part for part in parts if part != "__init__")])] = file
    return found


MODULES = modules()


def arrows(name):
    """Modules of ours that a module imports, in functions too; not what is for type checkers only."""
    tree = ast.parse(MODULES[name].read_text())
    typing_only = {
        id(node)
        for branch in ast.walk(tree)
        if isinstance(branch, ast.If) and ast.unparse(branch.test) == "TYPE_CHECKING"
        for statement in branch.body
        for node in ast.walk(statement)
    }
    for node in ast.walk(tree):
        if id(node) in typing_only:
            continue
        if isinstance(node, ast.ImportFrom) and node.module:
            inside = [f"{node.module}.{alias.name}" for alias in node.names]
            yield from ([each for each in inside if each in MODULES] or [node.module] * (node.module in MODULES))
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in MODULES)


def room(name):
    return name.split(".")[1] if "." in name else None


GRAPH = {name: set(arrows(name)) - {"ads_gym", name} for name in MODULES}


def test_every_module_has_a_layer():
    rooms = {room(name) for name in MODULES} - {None, "__main__", "weights"}
    assert rooms == set(LEVEL)


@pytest.mark.parametrize("name", sorted(MODULES))
def test_no_import_goes_up(name):
    if room(name) not in LEVEL:  # the package itself, whose lazy names reach everywhere, and `python -m`
        return
    for target in GRAPH[name]:
        assert room(target) == room(name) or LEVEL[room(target)] < LEVEL[room(name)], f"{name} imports {target}"


def test_no_import_goes_in_a_circle():
    """Between modules; a package's names in its __init__ are part of it."""
    done, path = set(), []

    def visit(name):
        assert name not in path, " -> ".join([*path[path.index(name) :], name])
        if name in done:
            return
        path.append(name)
        for target in sorted(GRAPH[name]):
            visit(target)
        path.pop()
        done.add(name)

    for name in sorted(GRAPH):
        visit(name)


def test_an_arrow_in_a_function_counts():
    assert "ads_gym.nets.sparse" in GRAPH["ads_gym.tasks.supernet"]
