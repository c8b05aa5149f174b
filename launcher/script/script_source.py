"""The text of a script or module, as far as it is known without running it."""

from __future__ import annotations

import sys
import warnings
from contextlib import suppress
from importlib.machinery import PathFinder
from importlib.util import find_spec
from pathlib import Path

from ...data.common import UsageError

_PYTHON = (".py", ".pyw", ".pyz", ".zip")
_CONFIGS = (".yaml", ".yml")
_OPTIONS = (
    "--cpu",
    "--gpus",
    "--nodes",
    "--node-rank",
    "--hang-timeout",
    "--max-restarts",
    "--nproc_per_node",
    "--nproc-per-node",
)
"""Those of a launch, and torchrun's for them, that change what runs; a script's own may have the same names."""
_OTHERS = (
    ".sh",
    ".bash",
    ".zsh",
    ".fish",
    ".ipynb",
    ".json",
    ".toml",
    ".txt",
    ".md",
    ".c",
    ".cpp",
    ".cu",
    ".so",
)
"""Some of these would compile as Python: a shell script of one word, for instance."""
_ADVICE = {
    "": "`launch run` starts Python programs: call it from the script, or name the program that this one starts",
    ".ipynb": "`jupyter nbconvert --to script` makes a Python file of a notebook",
}


def read_source(argv: list[str]) -> str:
    """Return the program's own text, as far as it is known without running it; empty where it cannot.

    Raises:
        UsageError: there is no such script or module, or it cannot be read.
    """
    path = _module(argv[1:]) if argv[0] == "-m" else _script(Path(argv[0]))
    if path is None or path.is_dir():
        return ""
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror}", "it has to be a file that you may read") from error
    if path.suffix in _CONFIGS:
        raise UsageError(f"{path}: a config, not a script", f"launch train [OPTIONS] {path}")
    if path.suffix not in _PYTHON and not _is_python(path, text):
        raise UsageError(f"{path}: not a Python file", _ADVICE.get(path.suffix, _ADVICE[""]))
    return text


def _is_python(path: Path, text: str) -> bool:
    """Tell whether a file of another name, or of none, is Python: it says so, or it can be compiled."""
    if text.startswith("#!"):
        return "python" in text.partition("\n")[0]
    if path.suffix in _OTHERS:
        return False
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            compile(text, str(path), "exec", dont_inherit=True)
    except (SyntaxError, ValueError):  # the latter: bytes of zero
        return False
    return True


def _script(path: Path) -> Path:
    if not path.exists():
        python = "leave `python` out: " if path.name.startswith("python") else ""
        raise UsageError(f"{path}: there is no such script", f"{python}launch run [OPTIONS] SCRIPT [ARGS]")
    if path.is_dir() and not (path / "__main__.py").exists():
        raise UsageError(f"{path}: a folder without a __main__.py", "name the script in it")
    return path / "__main__.py" if path.is_dir() else path


def _module(words: list[str]) -> Path | None:
    """Find the file of a module on the path or in this folder, importing nothing; None where it is not so simple."""
    if not words:
        raise UsageError("-m: a module's name is missing", "launch run [OPTIONS] -m MODULE [ARGS]")
    if words[0].endswith(".py") and Path(words[0]).is_file():
        raise UsageError(f"-m {words[0]}: that is a script, not a module's name", f"launch run {words[0]}")
    top = words[0].partition(".")[0]
    with suppress(ValueError):  # it is loaded here, and says nothing of its origin
        if not (PathFinder.find_spec(top, [str(Path.cwd())]) or find_spec(top)):
            raise UsageError(f"-m {words[0]}: there is no such module", "look at PYTHONPATH")
    for folder in (str(Path.cwd()), *sys.path):
        base = Path(folder, *words[0].split("."))
        for path in (base.with_suffix(".py"), base / "__main__.py"):
            if path.is_file():
                return path
    return None


def notes_on_arguments(argv: list[str], source: str) -> list[str]:
    """Note options of ``launch run`` that stand behind the program, which they belong to there.

    Args:
        argv: ``SCRIPT ARGS…`` or ``-m MODULE ARGS…``.
        source: the program's text; an option whose name is in it is its own.
    """
    first = 2 if argv[0] == "-m" else 1
    for word in argv[first:]:
        name = word.partition("=")[0]
        if name in _OPTIONS and name[2:].replace("-", "_") not in source:
            before = f"launch run {name} … {' '.join(argv[:first])}"
            return [f"{name} stands behind {argv[first - 1]} and belongs to it; for launch: `{before}`"]
    return []
