"""The options of a job as the guide and the command line have them, from their declarations; run, it writes both."""

from __future__ import annotations

import json
import re

from lockstep.launcher.slurm.option_declaration import SlurmOption, command_line_type, declared_options
from lockstep.launcher.slurm.options import SlurmConfig
from tests.helpers.paths import ROOT

LIST = ROOT / "launcher" / "cli" / "slurm_options_generated.py"
_LIST_HEAD = '''"""The options of a job on the command line, written by ``python -m tests.helpers.slurm.option_table``.

They are declared in ``slurm/options.py``, with pydantic, whose import takes as long as all that the help needs.
"""

from __future__ import annotations

from typing import Any

JOB_OPTIONS: tuple[tuple[str, Any, str, str, str], ...] = (
'''
GUIDE = ROOT / "slurm" / "README.md"
HEADING = "| key | option | meaning | unset |\n|---|---|---|---|\n"


def option_table(section: type[SlurmConfig] = SlurmConfig) -> str:
    """Return the table, one row for each option in the order of their declarations."""
    return HEADING + "".join(_row(key, option) for key, option in declared_options(section).items())


def _row(key: str, option: SlurmOption) -> str:
    value = option.metavar.replace("|", "\\|")
    option_text = f"`--{option.flag} {value}`" if option.flag else "—"
    meaning = f"{option.help} {option.notes}".strip()
    default = "" if option.default is None else f"`{option.default}`"
    return f"| `{key}` | {option_text} | {meaning} | {default} |\n"


def written_table() -> str:
    """Return the table that the guide has."""
    found = re.search(re.escape(HEADING) + r"(\|.*\n)+", GUIDE.read_text(encoding="utf-8"))
    return found[0] if found else ""


def option_list(section: type[SlurmConfig] = SlurmConfig) -> str:
    """Return the file of the command line: key, type, flag, what stands for the value, and what it means."""
    rows = []
    for key, option in declared_options(section).items():
        kind = command_line_type(section.model_fields[key].annotation)
        name = kind.__name__ if kind in (int, float, str) else "list[str]"
        texts = (option.flag or "", option.metavar, option.help)
        quoted = ", ".join(json.dumps(text, ensure_ascii=False) for text in texts)
        rows.append(f"    ({json.dumps(key)}, {name}, {quoted}),\n")
    end = (
        '"""Key, type, flag (empty: not on the command line), what stands for its value, and its meaning."""'
    )
    return f"{_LIST_HEAD}{''.join(rows)})  # fmt: skip\n{end}\n"


if __name__ == "__main__":
    LIST.write_text(option_list(), encoding="utf-8")
    GUIDE.write_text(
        GUIDE.read_text(encoding="utf-8").replace(written_table(), option_table()), encoding="utf-8"
    )
