"""An answer of sbatch that refuses the job, and silence that refuses nothing."""

from __future__ import annotations

import pytest

from lockstep.data.common.errors import UsageError
from lockstep.launcher.slurm.node_resources import NodeRequirements
from lockstep.launcher.slurm.tool_call import SlurmSilentError, ToolResult
from lockstep.launcher.submit.scheduler import explain_refusal

SILENCE = (
    "sbatch: error: Batch job submission failed: Unable to contact slurm controller (connect failure)",
    "sbatch: error: Batch job submission failed: Socket timed out on send/recv operation",
    "sbatch: error: Batch job submission failed: Protocol authentication error",
    "sbatch: error: Batch job submission failed: Invalid authentication credential",
    "sbatch: error: If munged is up, restart with --num-threads=10",
    "sbatch: error: Batch job submission failed: Zero Bytes were transmitted or received",
)

REFUSAL = (
    "sbatch: error: Project x is not authorized for this partition",
    "sbatch: error: author of the job unknown: see our site's rules",
    "sbatch: error: Batch job submission failed: Invalid account or account/partition combination specified",
)


@pytest.mark.parametrize("said", SILENCE)
def test_silence_is_no_refusal(said):
    error = ToolResult(("sbatch", "x"), 1, "", said).error()
    assert explain_refusal(error, NodeRequirements()) is error


def test_no_answer_is_no_refusal():
    error = SlurmSilentError("sbatch x\nno answer in 60 s")
    assert explain_refusal(error, NodeRequirements()) is error


@pytest.mark.parametrize("said", REFUSAL)
def test_a_refusal_is_told_in_the_site_s_own_words(said):
    told = explain_refusal(ToolResult(("sbatch", "x"), 1, "", said).error(), NodeRequirements())
    assert isinstance(told, UsageError)
    assert told.message.startswith("SLURM refuses the job: ")
    assert told.message.endswith(said.rpartition(": ")[2])
