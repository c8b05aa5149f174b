"""The table of options in ``slurm/README.md``, from their declarations; run as a module, it writes the table."""

from __future__ import annotations

import re

from lockstep.launcher.slurm.option_declaration import SlurmOption, declared_options
from lockstep.launcher.slurm.options import SlurmConfig
from tests.helpers.paths import ROOT

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


if __name__ == "__main__":
    GUIDE.write_text(
        GUIDE.read_text(encoding="utf-8").replace(written_table(), option_table()), encoding="utf-8"
    )
