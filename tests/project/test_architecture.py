"""The shape of the code: floors, cycles, sizes, public names, and what must not be imported or called where."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterable, Iterator
from functools import cache
from typing import Any, NamedTuple

from lockstep.data.common.lazy import exported
from tests.helpers.paths import ROOT

FLOORS = {"data": 1, "training": 2, "launcher": 3, "configs": 1, "slurm": 1}
LONGEST_FUNCTION = 50
LONGEST_FILE = 400
LARGEST_FOLDER = 16
LONGEST_CHAIN = 7  # imports, so one more module
HEAVY = {
    "torch",
    "numpy",
    "pandas",
    "pydantic",
    "rich",
    "wandb",
    "tensorboard",
    "accelerate",
    "yaml",
    "matplotlib",
    "torchvision",
}
IN_USERS_PROCESSES = {"launcher.api.run_objects"}  # it names types of what a user asks it for
PICKLING = {
    "launcher.api.pickled",  # what a user's process sends to its own ranks
    "data.sharing.shared_value",  # what a preparation hands to its ranks, which know the hash
}
LAUNCHER_WITH_TORCH = {"launcher.agent.elastic_engine"}  # the process that ranks are forked from
RUNS_SCRIPTS = {"launcher.agent.script_rank": "exec"}  # it runs the user's script as ``__main__``
PRINTING = {"launcher.console.console", "launcher.cli.app"}  # main prints the version only
QUESTIONS = {"What", "Whether", "Where", "Which", "How", "Who", "Of"}
ARTICLES = {
    "The",
    "A",
    "An",
    "Its",
    "In",
    "From",
    "At",
    "Each",
    "Every",
    "None",
    "One",
    "That",
    "This",
    "Those",
}
PROPERTIES = {"property", "cached_property", "functools.cached_property"}
TOP_OF_LAUNCHER = {
    "__init__",
    "batch",
}  # jobs that an earlier version has queued name `lockstep.launcher.batch`


class Import(NamedTuple):
    """One name that a module imports: from where it says, and from where it really comes."""

    package: str
    name: str
    module: str
    line: int


@cache
def modules() -> dict[str, ast.Module]:
    files = [
        path for floor in FLOORS for path in sorted((ROOT / floor).rglob("*.py")) if "_root" not in path.parts
    ]
    return {
        ".".join(path.relative_to(ROOT).with_suffix("").parts): ast.parse(path.read_text(), str(path))
        for path in files
    }


@cache
def nodes(module: str) -> list[ast.AST]:
    return list(ast.walk(modules()[module]))


def folder_of(module: str) -> str:
    return module.rpartition(".")[0]


@cache
def folders() -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for module in modules():
        found.setdefault(folder_of(module), []).append(module)
    return found


@cache
def exports(folder: str) -> dict[str, str]:
    """Public name to the module that it comes from."""
    source = (ROOT.joinpath(*folder.split(".")) / "__init__.py").read_text()
    return {name: f"{folder}.{module or name}" for name, module in exported(source).items()}


def _from_ours(module: str, node: ast.ImportFrom) -> Iterator[Import]:
    parts = module.split(".")[: -node.level] if node.level else []
    named = (node.module or "").split(".") if node.module else []
    package = ".".join([*parts, *(named if node.level else named[1:])])
    for alias in node.names:
        longer = f"{package}.{alias.name}" if package else alias.name
        if f"{longer}.__init__" in modules():
            home = f"{longer}.__init__"
        elif longer in modules():
            home = longer
        elif f"{package}.__init__" in modules():
            home = exports(package).get(alias.name, f"{package}.__init__")
        else:
            home = package
        yield Import(package, alias.name, home, node.lineno)


@cache
def own_imports(module: str) -> list[Import]:
    """What a module imports of ours, also inside functions and for types; a package's list of its names is none."""
    if module.endswith("__init__"):
        return []
    ours = [
        n
        for n in nodes(module)
        if isinstance(n, ast.ImportFrom) and (n.level > 0 or _is_ours(n.module or ""))
    ]
    return [found for node in ours for found in _from_ours(module, node) if found.package]


def _is_ours(name: str) -> bool:
    return name.partition(".")[0] == "lockstep"


@cache
def own(module: str) -> set[str]:
    return {found.module for found in own_imports(module) if found.module in modules()}


@cache
def others(module: str) -> set[str]:
    """Packages of others that a module imports, also inside functions."""
    found: set[str] = set()
    for node in nodes(module):
        if isinstance(node, ast.Import):
            found |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            found.add((node.module or "").partition(".")[0])
    return found


def each(names: Iterable[str], wrong: Callable[[str], Iterable[Any]]) -> dict[str, list[Any]]:
    """What is wrong with each module or folder, where something is: one test a rule, as thousands cost a minute."""
    found = {name: list(wrong(name)) for name in names}
    return {name: faults for name, faults in found.items() if faults}


def test_an_import_only_goes_down() -> None:
    def upwards(module: str) -> list[str]:
        floor = FLOORS[module.partition(".")[0]]
        return [name for name in own(module) if FLOORS[name.partition(".")[0]] > floor]

    assert each(modules(), upwards) == {}


def _longest(graph: dict[str, set[str]]) -> dict[str, int]:
    """Imports below each name; a cycle is an error."""
    lengths: dict[str, int] = {}

    def length(name: str, above: tuple[str, ...]) -> int:
        assert name not in above, " -> ".join([*above, name])
        if name not in lengths:
            lengths[name] = max((1 + length(below, (*above, name)) for below in graph[name]), default=0)
        return lengths[name]

    for name in graph:
        length(name, ())
    return lengths


def test_there_is_no_cycle_of_modules_and_no_long_chain() -> None:
    lengths = _longest({module: own(module) for module in modules()})
    assert max(lengths.values()) <= LONGEST_CHAIN, sorted(lengths.items(), key=lambda item: -item[1])[:5]


def test_there_is_no_cycle_between_folders() -> None:
    graph = {
        folder: {folder_of(name) for module in inside for name in own(module)} - {folder}
        for folder, inside in folders().items()
    }
    assert len(_longest(graph)) == len(folders())


def test_other_folders_import_public_names_only() -> None:
    def far(module: str) -> list[Import]:
        return [found for found in own_imports(module) if folder_of(found.module) != folder_of(module)]

    def private(module: str) -> list[Import]:
        return [
            found for found in far(module) if exports(folder_of(found.module)).get(found.name) != found.module
        ]

    def deep(module: str) -> list[Import]:
        return [found for found in far(module) if found.package != folder_of(found.module)]

    assert each(modules(), private) == {}
    assert each(modules(), deep) == {}, "from the folder, not from the file in it"


def test_no_module_is_imported_whole_by_its_full_name() -> None:
    """No rule here would see what is used of it."""

    def whole(module: str) -> list[str]:
        names = [a.name for n in nodes(module) if isinstance(n, ast.Import) for a in n.names]
        return [name for name in names if _is_ours(name)]

    assert each(modules(), whole) == {}


def test_a_public_name_is_there_and_wanted() -> None:
    users: dict[tuple[str, str], set[str]] = {}
    for module in modules():
        for found in own_imports(module):
            users.setdefault((found.module, found.name), set()).add(folder_of(module))

    def absent(folder: str) -> list[str]:
        return [module for module in exports(folder).values() if module not in modules()]

    def hidden(folder: str) -> list[str]:
        return [
            name
            for name, module in exports(folder).items()
            if module != f"{folder}.{name}" and f"{folder}.{name}" in modules()
        ]

    def unwanted(folder: str) -> list[str]:
        return [
            name
            for name, module in exports(folder).items()
            if not users.get((module, name), set()) - {folder}
        ]

    assert each(folders(), absent) == {}
    assert each(folders(), hidden) == {}, "a submodule of the name hides it"
    assert each(folders(), unwanted) == {}


def test_files_functions_and_folders_stay_small() -> None:
    def long(module: str) -> list[str]:
        functions = [n for n in nodes(module) if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef)]
        return [f.name for f in functions if (f.end_lineno or 0) - f.lineno + 1 > LONGEST_FUNCTION]

    def lines(module: str) -> int:
        return max((node.end_lineno or 0 for node in modules()[module].body), default=0)

    assert each(modules(), long) == {}
    assert {module: lines(module) for module in modules() if lines(module) > LONGEST_FILE} == {}
    assert {folder: len(inside) for folder, inside in folders().items() if len(inside) > LARGEST_FOLDER} == {}


def test_nothing_lies_at_the_top_of_the_launcher() -> None:
    assert {module.rpartition(".")[2] for module in folders()["launcher"]} == TOP_OF_LAUNCHER


def test_the_launcher_imports_no_torch() -> None:
    def heavy(module: str) -> set[str]:
        return others(module) & {"torch", "torchvision", "accelerate", "numpy", "pandas"}

    launcher = {module for module in modules() if module.startswith("launcher.")}
    assert each(launcher - LAUNCHER_WITH_TORCH - IN_USERS_PROCESSES, heavy) == {}


def calls(module: str) -> list[ast.Call]:
    return [node for node in nodes(module) if isinstance(node, ast.Call)]


@cache
def called(module: str) -> set[str]:
    """The names of what a module calls, ``torch.load`` only where it is unsafe."""
    names = [(ast.unparse(call.func), call) for call in calls(module)]
    return {
        name for name, call in names if name != "torch.load" or "weights_only=True" not in ast.unparse(call)
    }


def test_no_pickle_no_shell_no_unsafe_yaml_no_print() -> None:
    def unsafe(module: str) -> set[str]:
        forbidden = {"torch.load", "os.system", "yaml.load", "eval", "exec"} - {RUNS_SCRIPTS.get(module)}
        return called(module) & forbidden | others(module) & {"pickle", "dill", "cloudpickle"}

    def shells(module: str) -> list[int]:
        keywords = [keyword for call in calls(module) for keyword in call.keywords]
        return [k.value.lineno for k in keywords if k.arg == "shell" and ast.unparse(k.value) != "False"]

    def prints(module: str) -> set[str]:
        return called(module) & {"print", "typer.echo"}

    assert each(modules().keys() - PICKLING, unsafe) == {}
    assert each(modules(), shells) == {}
    assert each(modules().keys() - PRINTING, prints) == {}


def test_users_errors_are_no_assertions() -> None:
    def assertions(module: str) -> list[int]:
        return [node.lineno for node in nodes(module) if isinstance(node, ast.Assert)]

    assert each(modules(), assertions) == {}


def test_everything_is_typed() -> None:
    """As far as a signature shows; mypy, which is strict, sees the rest."""

    def untyped(module: str) -> Iterator[str]:
        for node in nodes(module):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                given = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
                given += [extra for extra in (node.args.vararg, node.args.kwarg) if extra is not None]
                bare = [a.arg for a in given if a.annotation is None and a.arg not in ("self", "cls")]
                if bare or node.returns is None:
                    yield f"{node.name}: {', '.join([*bare, *([] if node.returns else ['return'])])}"

    assert each(modules(), untyped) == {}


def test_an_object_is_given_what_it_needs_when_it_is_made() -> None:
    """And is told more by calling it: who holds an object in the launcher sets none of its attributes."""

    def targets(node: ast.AST) -> list[ast.expr]:
        if isinstance(node, ast.Assign):
            return [each for t in node.targets for each in (t.elts if isinstance(t, ast.Tuple) else [t])]
        return [node.target] if isinstance(node, ast.AugAssign | ast.AnnAssign) else []

    def set_from_outside(module: str) -> list[str]:
        attributes = [t for node in nodes(module) for t in targets(node) if isinstance(t, ast.Attribute)]
        return [ast.unparse(t) for t in attributes if ast.unparse(t.value).startswith("self.")]

    assert each([module for module in modules() if module.startswith("launcher.")], set_from_outside) == {}


def test_a_function_is_described_by_a_verb_and_a_class_by_a_noun() -> None:
    """As far as first words tell; a property reads like an attribute and is described like one."""

    def wrong(module: str) -> Iterator[str]:
        for node in nodes(module):
            if not isinstance(node, ast.FunctionDef | ast.ClassDef):
                continue
            if {ast.unparse(decorator) for decorator in node.decorator_list} & PROPERTIES:
                continue
            first = (ast.get_docstring(node) or "-").split()[0].strip(",.:;") or "-"
            is_plural = first.endswith("s") and not first.endswith(
                "ss"
            )  # or "Refuses": a verb has no such form here
            no_verb = first in ARTICLES or is_plural or not first[0].isupper()
            if first in QUESTIONS or (isinstance(node, ast.FunctionDef) and first != "-" and no_verb):
                yield f"{node.name}: {first} …"

    assert each(modules(), wrong) == {}


def _parameters(node: ast.FunctionDef | ast.ClassDef) -> set[str]:
    """What a docstring may describe: a function's parameters, a class's, or the fields of a dataclass."""
    made = node
    if isinstance(node, ast.ClassDef):
        fields = {
            f.target.id for f in node.body if isinstance(f, ast.AnnAssign) and isinstance(f.target, ast.Name)
        }
        made = next((f for f in node.body if isinstance(f, ast.FunctionDef) and f.name == "__init__"), None)
        if made is None:
            return fields
    every = [
        *made.args.posonlyargs,
        *made.args.args,
        *made.args.kwonlyargs,
        made.args.vararg,
        made.args.kwarg,
    ]
    return {argument.arg for argument in every if argument is not None}


def test_a_docstring_describes_parameters_that_are_there() -> None:
    def wrong(module: str) -> Iterator[str]:
        for node in nodes(module):
            if isinstance(node, ast.FunctionDef | ast.ClassDef):
                text = ast.get_docstring(node) or ""
                section = re.search(r"^Args:\n((?: {4}.*\n?|\n)+)", text, re.MULTILINE)
                named = re.findall(r"^    (\w+): ", section[1], re.MULTILINE) if section else []
                yield from (f"{node.name}: {name}" for name in named if name not in _parameters(node))

    assert each(modules(), wrong) == {}


def test_every_package_is_listed_and_linked() -> None:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    assert settings["packages"] == ["lockstep", *(f"lockstep.{folder}" for folder in sorted(folders()))]
    for floor in FLOORS:
        assert settings["package-dir"][f"lockstep.{floor}"] == floor
        assert (ROOT / ".typecheck" / "lockstep" / floor).resolve() == ROOT / floor
    for folder in folders():
        assert ROOT.joinpath(*folder.split("."), "__init__.py").is_file()


def _modules_after(code: str) -> set[str]:
    code += "; import sys; sys.stdout.write('\\n'.join(sys.modules))"
    done = subprocess.run(
        [sys.executable, "-P", "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    return {name.partition(".")[0] for name in done.stdout.split()}


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys, contextlib, io; sys.argv = ['launch', '--help']; from lockstep.launcher.cli.app import main\n"
        "with contextlib.redirect_stdout(io.StringIO()), contextlib.suppress(SystemExit): main()\npass"
    )
    assert _modules_after(code) & HEAVY == set()


def test_the_launcher_side_of_a_run_imports_no_torch_nor_pandas() -> None:
    loaded = _modules_after(
        "import lockstep.launcher.train.training_run, lockstep.launcher.commands.show\n"
        "import lockstep.launcher.config.resolution"
    )
    assert loaded & {"torch", "pandas", "wandb", "accelerate", "matplotlib", "torchvision"} == set()
