"""Imports go down from layer to layer and never in a circle."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
LAYERS = [  # of modules and packages, from the top; a layer imports from those below it, and within a package
    {"cli"},
    {"compression", "benchmark"},
    {"reports"},
    {"runs"},
    {"agents"},
    {"envs"},
    {"pools"},
    {"tabulation"},
    {"supernet_training"},
    {"problem"},
    {"objective"},
    {"tasks"},
    {"evaluators"},
    {"nets"},
    {"data"},
    {"architecture", "database"},
    {"topology", "devices", "torch_state"},
    {"records", "tables"},
    {"files"},
    {"limits"},
    {"imports"},
    {"choices"},
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
    """Modules of ours that a module imports, in functions and for type checkers too."""
    tree = ast.parse(MODULES[name].read_text())
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module:
            inside = [f"{node.module}.{alias.name}" for alias in node.names]
            yield from ([each for each in inside if each in MODULES] or [node.module] * (node.module in MODULES))
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in MODULES)


def package(name):
    return name.split(".")[1] if "." in name else None


GRAPH = {name: set(arrows(name)) - {"ads_gym", name} for name in MODULES}


def test_every_module_has_a_layer():
    packages = {package(name) for name in MODULES} - {None, "__main__", "weights"}
    assert packages == set(LEVEL)


@pytest.mark.parametrize("name", sorted(MODULES))
def test_no_import_goes_up(name):
    if package(name) not in LEVEL:  # the package itself, whose lazy names reach everywhere, and `python -m`
        return
    for target in GRAPH[name]:
        assert package(target) == package(name) or LEVEL[package(target)] < LEVEL[package(name)], (
            f"{name} imports {target}"
        )


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


@pytest.mark.parametrize("name", sorted(MODULES))
def test_nothing_private_of_other_packages_is_imported(name):
    """It breaks with their next release."""
    for node in ast.walk(ast.parse(MODULES[name].read_text())):
        names = []
        if isinstance(node, ast.ImportFrom) and node.module:
            names = [*node.module.split("."), *(alias.name for alias in node.names)]
        elif isinstance(node, ast.Import):
            names = [part for alias in node.names for part in alias.name.split(".")]
        if names and names[0] != "__future__":
            assert not [part for part in names if part.startswith("_") and not part.startswith("__")], names
