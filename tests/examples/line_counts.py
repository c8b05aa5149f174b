"""Lines of user code of each example and of its peers; run as a module, it writes the table of docs/migration.md."""

from __future__ import annotations

import ast
import re
from pathlib import Path

from tests.helpers.paths import ROOT

GUIDE = ROOT / "docs" / "migration.md"
HEADING = "| training | model and data, the same for all | Lockstep | Lightning | Accelerate |\n|---|---|---|---|---|\n"
PEERS = ("lightning", "accelerate")


def line_table() -> str:
    """Return the table, one row for each example that has peers."""
    folders = sorted(path.parent for path in ROOT.glob("examples/*/with_lightning.py"))
    return HEADING + "".join(_row(folder) for folder in folders)


def _row(folder: Path) -> str:
    shared, own = shared_and_own(folder)
    peers = [code_lines((folder / f"with_{peer}.py").read_text()) for peer in PEERS]
    cells = [f"`{folder.name}`", shared, own + code_lines((folder / "exp.yaml").read_text()), *peers]
    return "| " + " | ".join(map(str, cells)) + " |\n"


def shared_and_own(folder: Path) -> tuple[int, int]:
    """Count the lines of ``exp.py`` that the peers import, and those that only Lockstep needs."""
    text = (folder / "exp.py").read_text()
    wanted = set().union(*(imported_from_exp(folder / f"with_{peer}.py") for peer in PEERS))
    definitions = {name: node for node in ast.parse(text).body for name in _defines(node)}
    used: set[str] = set()
    while wanted - used:
        name = min(wanted - used)
        used.add(name)
        inside = {found.id for found in ast.walk(definitions[name]) if isinstance(found, ast.Name)}
        wanted |= inside & definitions.keys()
    lines = text.splitlines()
    unused = [node for name, node in definitions.items() if name not in used]
    own = sum(code_lines("\n".join(lines[node.lineno - 1 : node.end_lineno])) for node in unused)
    return code_lines(text) - own, own


def imported_from_exp(path: Path) -> set[str]:
    """Return what a peer's program takes from ``exp.py``."""
    nodes = [node for node in ast.parse(path.read_text()).body if isinstance(node, ast.ImportFrom)]
    return {alias.name for node in nodes if node.module == "exp" for alias in node.names}


def _defines(node: ast.stmt) -> list[str]:
    if isinstance(node, ast.FunctionDef | ast.ClassDef):
        return [node.name]
    targets = node.targets if isinstance(node, ast.Assign) else []
    return [target.id for target in targets if isinstance(target, ast.Name)]


def code_lines(text: str) -> int:
    """Count the lines that are neither blank nor a comment nor a docstring at the top."""
    lines = [line for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")]
    return len([line for line in lines if not line.startswith('"""')])


def written_table() -> str:
    """Return the table that the guide has."""
    found = re.search(re.escape(HEADING) + r"(\|.*\n)+", GUIDE.read_text(encoding="utf-8"))
    return found[0] if found else ""


if __name__ == "__main__":
    GUIDE.write_text(
        GUIDE.read_text(encoding="utf-8").replace(written_table(), line_table()), encoding="utf-8"
    )
