"""What ``--dry-run`` prints."""

from __future__ import annotations

import re
import shlex

from lockstep.launcher.slurm.job_spec import BATCH_SCRIPT
from tests.helpers.slurm.job_options import compose


def test_what_the_dry_run_prints_can_be_pasted(tmp_path, monkeypatch):
    from lockstep.launcher.submit.dry_run import dry_run_listing

    monkeypatch.chdir(tmp_path)
    sent = compose(tmp_path / "a 'b\" $(x)", partition="p")
    text = "\n".join(dry_run_listing(sent.to_json(), sent.values))
    command = text.partition("\n\n")[0].partition("\n")[2]
    assert shlex.split(command.replace("\\\n", "")) == ["sbatch", *sent.arguments]
    assert BATCH_SCRIPT.read_text() in text + "\n"
    assert re.search(r"^partition +p +--partition$", text, re.MULTILINE)
