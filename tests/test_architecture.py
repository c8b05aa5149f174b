"""The shape of the code: floors, cycles, sizes, and what must not be imported or called where."""

from __future__ import annotations

import ast
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
FLOORS = {"data": 1, "training": 2, "launcher": 3, "configs": 1, "slurm": 1}
LONGEST_FUNCTION = 50
LONGEST_FILE = 400
LONGEST_CHAIN = 7  # imports, so one more module
HEAVY = {
    "torch",
    "numpy",
    "pandas",
    "pydantic",
    "rich",
    "wandb",
    "accelerate",
    "yaml",
    "matplotlib",
    "torchvision",
}
LAUNCHER_WITH_TORCH = {"launcher.engine"}  # the process that ranks are forked from
RUNS_SCRIPTS = {"launcher.bootstrap": "exec"}  # it runs the user's script as ``__main__``
PRINTING = {"launcher.console", "launcher.cli"}  # cli prints the version only


@cache
def modules() -> dict[str, ast.Module]:
    files = [path for folder in FLOORS for path in sorted((ROOT / folder).glob("*.py"))]
    return {f"{path.parent.name}.{path.stem}": ast.parse(path.read_text(), str(path)) for path in files}


def _imported(module: str, node: ast.AST) -> Iterator[str]:
    """Names of what one import statement brings: ``training.step`` for our own, ``torch`` for others'."""
    if isinstance(node, ast.Import):
        yield from (alias.name.partition(".")[0] for alias in node.names)
    elif isinstance(node, ast.ImportFrom) and node.level == 0:
        yield (node.module or "").partition(".")[0]
    elif isinstance(node, ast.ImportFrom):
        folder = module.partition(".")[0] if node.level == 1 else ""
        path = ".".join(part for part in (folder, node.module or "") if part)
        for alias in node.names:
            longer = f"{path}.{alias.name}" if path else alias.name
            yield (
                longer
                if longer in modules()
                else f"{longer}.__init__"
                if f"{longer}.__init__" in modules()
                else path
            )


def imports(module: str, *, lazy: bool) -> set[str]:
    """Everything that a module imports; with ``lazy`` also inside functions and for types."""
    tree = modules()[module]
    nodes = ast.walk(tree) if lazy else iter(tree.body)
    return {name for node in nodes for name in _imported(module, node)}


def own(module: str) -> set[str]:
    return imports(module, lazy=True) & modules().keys()


@pytest.mark.parametrize("module", modules())
def test_an_import_only_goes_down(module: str) -> None:
    floor = FLOORS[module.partition(".")[0]]
    assert [name for name in own(module) if FLOORS[name.partition(".")[0]] > floor] == []


def test_there_is_no_cycle_of_any_kind_and_no_long_chain() -> None:
    lengths: dict[str, int] = {}

    def length(module: str, above: tuple[str, ...]) -> int:
        assert module not in above, " -> ".join([*above, module])
        if module not in lengths:
            lengths[module] = max((1 + length(name, (*above, module)) for name in own(module)), default=0)
        return lengths[module]

    longest = max(length(module, ()) for module in modules())
    assert longest <= LONGEST_CHAIN, sorted(lengths.items(), key=lambda item: -item[1])[:5]


@pytest.mark.parametrize("module", modules())
def test_files_and_functions_stay_short(module: str) -> None:
    tree = modules()[module]
    functions = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
    long = [f.name for f in functions if (f.end_lineno or 0) - f.lineno + 1 > LONGEST_FUNCTION]
    assert long == []
    assert max((node.end_lineno or 0 for node in tree.body), default=0) <= LONGEST_FILE


@pytest.mark.parametrize("module", [name for name in modules() if name.startswith("launcher.")])
def test_the_launcher_imports_no_torch(module: str) -> None:
    if module not in LAUNCHER_WITH_TORCH:
        assert imports(module, lazy=True) & {"torch", "torchvision", "accelerate", "numpy", "pandas"} == set()


@pytest.mark.parametrize("module", modules())
def test_no_pickle_no_shell_no_unsafe_yaml_no_print(module: str) -> None:
    names = {ast.unparse(node.func) for node in ast.walk(modules()[module]) if isinstance(node, ast.Call)}
    forbidden = {"torch.load", "os.system", "yaml.load", "eval"} | ({"exec"} - {RUNS_SCRIPTS.get(module)})
    assert names & forbidden == set()
    assert imports(module, lazy=True) & {"pickle", "dill", "cloudpickle"} == set()
    keywords = [
        k for node in ast.walk(modules()[module]) if isinstance(node, ast.Call) for k in node.keywords
    ]
    assert [k for k in keywords if k.arg == "shell" and ast.unparse(k.value) != "False"] == []
    if module not in PRINTING:
        assert names & {"print", "typer.echo"} == set()


@pytest.mark.parametrize("module", modules())
def test_users_errors_are_no_assertions(module: str) -> None:
    assert [node.lineno for node in ast.walk(modules()[module]) if isinstance(node, ast.Assert)] == []


def test_every_package_is_listed_and_linked() -> None:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    assert set(settings["packages"]) == {"lockstep"} | {f"lockstep.{folder}" for folder in FLOORS}
    for folder in FLOORS:
        assert settings["package-dir"][f"lockstep.{folder}"] == folder
        assert (ROOT / ".typecheck" / "lockstep" / folder).resolve() == ROOT / folder


def _modules_after(code: str) -> set[str]:
    code += "; import sys; sys.stdout.write('\\n'.join(sys.modules))"
    done = subprocess.run(
        [sys.executable, "-P", "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    return {name.partition(".")[0] for name in done.stdout.split()}


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys, contextlib, io; sys.argv = ['launch', '--help']; from lockstep.launcher.cli import main\n"
        "with contextlib.redirect_stdout(io.StringIO()), contextlib.suppress(SystemExit): main()\npass"
    )
    assert _modules_after(code) & HEAVY == set()


def test_the_launcher_side_of_a_run_imports_no_torch_nor_pandas() -> None:
    loaded = _modules_after(
        "import lockstep.launcher.local, lockstep.launcher.look, lockstep.launcher.config"
    )
    assert loaded & {"torch", "pandas", "wandb", "accelerate", "matplotlib", "torchvision"} == set()
