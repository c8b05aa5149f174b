"""An option of a job is declared in one place: the schema, the command line, sbatch and the guide follow."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from lockstep.data.common.errors import UsageError
from lockstep.launcher.cli import slurm_options
from lockstep.launcher.cli.app import app
from lockstep.launcher.slurm.option_declaration import declared_options, slurm_option
from lockstep.launcher.slurm.option_types import Names
from lockstep.launcher.slurm.options import SlurmConfig, check_sbatch_option
from lockstep.launcher.submit.sbatch_arguments import sbatch_options
from lockstep.launcher.submit.submit_run import SubmitRequest
from tests.helpers.paths import ROOT
from tests.helpers.slurm.job_options import options_of
from tests.helpers.slurm.option_table import LIST, option_list, option_table, written_table

OPTIONS = declared_options(SlurmConfig)
CONSUMERS = ("launcher/submit", "launcher/options/supervision.py")


class _WithOneMore(SlurmConfig):
    """What a developer does who wants one more option: nothing but this."""

    licenses: Names | None = slurm_option("NAMES", "Licenses.", flag="license", sbatch="licenses")


def flags() -> dict[str, str]:
    """Key to option of all that a command of SLURM has on the command line."""
    return {found.name: found.opts[0] for found in slurm_options._parameters() if found.name != "cluster"}


def test_the_guide_has_the_table_that_the_declarations_give() -> None:
    assert written_table() == option_table(), "write it with `python -m tests.helpers.slurm.option_table`"


def test_the_command_line_has_the_list_that_the_declarations_give() -> None:
    assert LIST.read_text() == option_list(), "write it with `python -m tests.helpers.slurm.option_table`"


def test_the_command_line_has_every_option_in_the_order_of_the_declarations() -> None:
    declared = {key: f"--{option.flag}" for key, option in OPTIONS.items() if option.flag}
    assert list(flags().items()) == list(declared.items())
    assert [key for key, option in OPTIONS.items() if option.flag is None] == ["setup"]


def test_a_command_gets_every_option_in_that_order_wherever_it_stands(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seen: list[SubmitRequest] = []

    def submit(request: SubmitRequest) -> int:
        seen.append(request)
        return 0

    monkeypatch.setattr("lockstep.launcher.submit.submit", submit)
    words = "submit digits --sbatch nice=3 --sbatch hold --env A --env B --cluster c --time 1h --nodes 2"
    with pytest.raises(SystemExit):
        app(words.split())
    given = {"nodes": 2, "time": "1h", "env": ["A", "B"], "sbatch": {"nice": "3", "hold": True}}
    assert list(seen[0].slurm) == [key for key, option in OPTIONS.items() if option.flag]
    assert {key: value for key, value in seen[0].slurm.items() if value not in (None, [], {})} == given
    assert seen[0].cluster == "c"


def read_names(*places: str) -> set[str]:
    """Attributes that sources read, and fields that they declare."""
    files = [file for place in places for file in ([*ROOT.joinpath(place).glob("*.py")] or [ROOT / place])]
    nodes = [node for file in files for node in ast.walk(ast.parse(Path(file).read_text()))]
    fields = {
        node.target.id
        for node in nodes
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name)
    }
    return fields | {node.attr for node in nodes if isinstance(node, ast.Attribute)}


@pytest.mark.parametrize("key", OPTIONS)
def test_an_option_reaches_sbatch_or_somebody_who_reads_it(key: str) -> None:
    assert OPTIONS[key].is_passed_as_is or key in read_names(*CONSUMERS)


@pytest.mark.parametrize("key", OPTIONS)
def test_an_option_is_described(key: str) -> None:
    option = OPTIONS[key]
    assert option.help.endswith(".")
    assert SlurmConfig.model_fields[key].description == option.help
    assert option.metavar or option.flag is None


@pytest.mark.parametrize("key", [key for key, option in OPTIONS.items() if option.sbatch])
def test_an_option_of_sbatch_is_refused_under_the_name_that_it_has_here(key: str) -> None:
    with pytest.raises(UsageError, match=f"has an option of its own: --{OPTIONS[key].flag}$"):
        options_of(sbatch={OPTIONS[key].sbatch: "1"})


def test_one_more_option_is_one_more_declaration() -> None:
    section = _WithOneMore(licenses="a,b")
    assert "--licenses=a,b" in sbatch_options(Path("/r/x"), section, cores=None, requeue=False)
    assert check_sbatch_option("licenses", _WithOneMore) == "has an option of its own: --license"
    assert "| `licenses` | `--license NAMES` | Licenses. |  |\n" in option_table(_WithOneMore)
    assert '    ("licenses", str, "license", "NAMES", "Licenses."),\n' in option_list(_WithOneMore)
