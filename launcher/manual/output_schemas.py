"""The JSON schemas of what ``--json`` prints. Keys that are here stay and keep their meaning; others may be added."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ...data.common import UsageError, suggestion

Schema = Mapping[str, Any]
VERSION = 1
"""``schema_version`` of every document; a larger one would mean something else by a key that is here."""
STATUSES = {
    "queued": "a SLURM job of it waits",
    "running": "a launcher has it",
    "stopping": "a launcher has it, and it is to stop with a checkpoint",
    "done": "it is through",
    "failed": "it ended with an error, or its launcher without a word",
    "stopped": "it ended with a checkpoint as it was asked to; `launch resume` continues it",
    "cancelled": "it was ended at once",
}
"""Every status of a run, and what it says."""


def _of(kind: str, meaning: str = "", *, none: bool = False, **more: Any) -> Schema:
    about = {"description": meaning} if meaning else {}
    return {"type": [kind, "null"] if none else kind, **about, **more}


def _object(keys: Mapping[str, Schema], optional: Mapping[str, Schema] | None = None, **more: Any) -> Schema:
    return {"type": "object", "properties": {**keys, **(optional or {})}, "required": list(keys), **more}


def _list(items: Schema, meaning: str = "") -> Schema:
    return _of("array", meaning, items=items)


_TEXT, _COUNT, _NUMBER, _FLAG = _of("string"), _of("integer"), _of("number"), _of("boolean")
_ERROR = _object({"kind": _TEXT, "message": _TEXT, "hint": _of("string", "what to do about it")})
_NO_ERROR: Schema = {"anyOf": [_ERROR, {"type": "null"}]}
_METRICS = _of("object", "null is one that is not a number", additionalProperties=_of("number", none=True))
_EXIT = _of("integer", "of the command or the run; docs/errors.md", none=True)
_RUN_STATUS = _of(
    "string", "; ".join(f"{key}: {words}" for key, words in STATUSES.items()), enum=list(STATUSES)
)
_POINT = _object(
    {
        "index": _COUNT,
        "run": _TEXT,
        "run_dir": _TEXT,
        "values": _of("object", "the settings that differ between points"),
        "status": _of("string"),
        "exit_code": _EXIT,
        "error": _NO_ERROR,
        "epoch": _COUNT,
        "step": _COUNT,
        "metrics": _METRICS,
        "best": _of("number", none=True),
        "best_epoch": _of("integer", none=True),
    }
)
_RUN = _object(
    {
        "run": _TEXT,
        "run_dir": _TEXT,
        "kind": _of("string", "a training or a script", enum=["train", "run"]),
        "status": _RUN_STATUS,
        "interrupted": _of("boolean", "its launcher ended without saying how"),
        "resumable": _of("boolean", "`launch resume` would continue it"),
        "epoch": _of("integer", "epochs that are over"),
        "step": _of("integer", "steps that are over"),
        "planned": _of("object", "steps, steps_per_epoch, batch_size and epochs, where known", none=True),
        "metrics": _METRICS,
        "updated": _of("number", "seconds since 1970"),
        "owner": _of("object", "the process that has it: pid, host, user", none=True),
        "attempts": _list(_COUNT),
        "exit_code": _EXIT,
        "error": _NO_ERROR,
    },
    {
        "gave_up": _of("string", none=True),
        "slurm": _of("object", "of a submitted run: its jobs and their state"),
    },
)
_SWEEP = _object(
    {
        "sweep": _TEXT,
        "sweep_dir": _TEXT,
        "kind": _of("string", enum=["sweep"]),
        "status": _TEXT,
        "exit_code": _EXIT,
        "keys": _list(_TEXT),
        "metric": _of("string", none=True),
        "best": _of("string", "the run of the best point", none=True),
        "points": _list(_POINT),
    }
)
_BRIEF = _object({"sweep": _TEXT, "status": _TEXT, "points": _list(_TEXT)})
_OUTCOME = _object(
    {"run": _TEXT, "run_dir": _TEXT, "status": _RUN_STATUS, "exit_code": _EXIT},
    {
        "world_size": _COUNT,
        "epochs": _COUNT,
        "steps": _COUNT,
        "samples": _COUNT,
        "metrics": _METRICS,
        "weights_sha256": _of("string", "equal for runs whose weights are equal to the bit", none=True),
        "order_sha256": _of("string", none=True),
        "error": _ERROR,
        "seconds": _NUMBER,
    },
)
_PLANNED, _QUEUED = _of("string", enum=["planned"]), _of("string", enum=["queued"])
_PLAN = _object({"status": _PLANNED, "plan": _of("object"), "spec": _of("object", "as RUN/spec.json")})
_PAIRS = _list(_object({"key": _TEXT, "values": _of("array", minItems=2, maxItems=2)}))
_FIRST = _of("object", "step and both values", none=True)
_START = _of("string", "when SLURM expects the job to start", none=True)
_SENT = _object({"run": _TEXT, "run_dir": _TEXT, "status": _QUEUED, "job": _TEXT, "expected_start": _START})
_SENT_SWEEP = _object(
    {"sweep": _TEXT, "sweep_dir": _TEXT, "status": _QUEUED, "job": _TEXT, "points": _list(_of("object"))}
)
_UNSENT = _object(
    {
        "status": _PLANNED,
        "expected_start": _START,
        "sbatch": _list(_TEXT, "the command that would be run"),
        "files": _of("object", "by name, with what would be in them"),
        "job": _of("object"),
        "environment": _list(_TEXT, "names of the variables that the job gets"),
        "origins": _of("object"),
    }
)
_REMOVED = _object({"name": _TEXT, "run_dir": _TEXT})

_DOCUMENTS: dict[str, list[Schema]] = {
    "train": [_OUTCOME, _PLAN],
    "resume": [_OUTCOME, _SENT],
    "eval": [
        _object(
            {
                "run": _TEXT,
                "run_dir": _TEXT,
                "status": _of("string", enum=["done"]),
                "exit_code": _EXIT,
                "world_size": _COUNT,
                "checkpoint": _TEXT,
                "step": _COUNT,
                "epochs": _COUNT,
                "data": _of("string", "the data set, or what --data names"),
                "splits": _list(_TEXT),
                "metrics": _METRICS,
                "damaged": _list(_TEXT, "checkpoints that were passed over"),
                "seconds": _NUMBER,
            }
        )
    ],
    "check": [
        _object(
            {
                "status": _of("string", enum=["passed", "failed"]),
                "exit_code": _EXIT,
                "checks": _list(_object({"check": _TEXT, "verdict": _TEXT, "what": _TEXT})),
                "seconds": _NUMBER,
            },
            {"error": _ERROR},
        )
    ],
    "show": [
        _object(
            {
                "data": _TEXT,
                "train_samples": _COUNT,
                "val_samples": _COUNT,
                "class_counts": _of("array", "of each class, in training", none=True),
                "picture": _of("string", "the file that was drawn", none=True),
                "notes": _list(_TEXT),
            },
            {"problem": _of("string", "why there is no picture", none=True), "schedule": _of("object")},
        )
    ],
    "sweep": [
        _SWEEP,
        _object({"status": _PLANNED, "points": _list(_of("object"))}),
        _object({"points": _list({})}),
    ],
    "status": [
        _object(
            {
                "runs": _list(_RUN),
                "sweeps": _list(_object({"sweep": _TEXT, "status": _TEXT, "points": _list({})})),
            }
        ),
        _object(
            {
                **_RUN["properties"],
                "samples_per_second": _of("number", "of late, of one that runs", none=True),
                "seconds_left": _of("number", none=True),
            },
            required=[*_RUN["required"], "samples_per_second", "seconds_left"],
        ),
        _SWEEP,
    ],
    "logs": [
        _object(
            {
                "run": _TEXT,
                "attempt": _of("integer", "whose logs these are", none=True),
                "attempts": _list(_COUNT),
                "printed": _list(_TEXT, "lines of the launcher's own terminal"),
                "lines": _list(
                    _object({"ranks": _list(_COUNT), "text": _TEXT}),
                    "of the ranks; one of several stands once",
                ),
                "files": _list(
                    _object({"path": _TEXT, "lines": _list(_TEXT)}), "of SLURM's jobs that got no further"
                ),
            }
        )
    ],
    "compare": [
        _object(
            {
                "runs": _list(_TEXT),
                "settings": _PAIRS,
                "environment": _PAIRS,
                "data": _PAIRS,
                "order": _PAIRS,
                "loss": _object({"compared": _COUNT, "first": _FIRST, "first_beyond_rounding": _FIRST}),
                "metrics": _PAIRS,
            }
        )
    ],
    "export": [
        _object({"run": _TEXT, "format": _TEXT, "path": _TEXT, "damaged": _list(_TEXT), "bytes": _COUNT})
    ],
    "plot": [_object({"picture": _TEXT, "runs": _list(_of("object"))})],
    "report": [_object({"report": _TEXT, "bytes": _COUNT})],
    "replay": [
        _object(
            {
                "run": _TEXT,
                "step": _COUNT,
                "world_size": _COUNT,
                "epoch": _COUNT,
                "step_of_epoch": _COUNT,
                "weights_step": _COUNT,
                "mixes_ranks": _FLAG,
                "exact": _FLAG,
                "samples": _list(
                    _object(
                        {
                            "rank": _COUNT,
                            "micro_batch": _COUNT,
                            "index": _COUNT,
                            "loss": _of("number", "null where it is none for each sample", none=True),
                        }
                    )
                ),
                "out": _of("string", none=True),
            }
        )
    ],
    "init": [_object({"folder": _TEXT, "files": _list(_TEXT, "in the folder")})],
    "cache": [
        _object(
            {
                "folder": _TEXT,
                "entries": _list(
                    _object(
                        {
                            "name": _TEXT,
                            "bytes": _COUNT,
                            "used": _of("number", "when, in seconds since 1970"),
                            "in_use": _FLAG,
                            "is_whole": _FLAG,
                            "about": _TEXT,
                            "removed": _FLAG,
                        }
                    )
                ),
            }
        )
    ],
    "submit": [_SENT, _UNSENT],
    "rm": [_object({"removed": _list(_REMOVED)})],
    "config show": [_object({"name": _TEXT, "config": _of("object"), "origins": _of("object")})],
    "config why": [
        _object(
            {
                "key": _TEXT,
                "value": {},
                "origin": _TEXT,
                "type": _TEXT,
                "default": _TEXT,
                "meaning": _TEXT,
                "may_change_on_resume": _FLAG,
            }
        ),
        _object({"key": _TEXT}),
    ],
    "doctor": [
        _object(
            {
                "verdict": _of("string", enum=["pass", "warn", "fail"]),
                "seconds": _NUMBER,
                "checks": _list(
                    _object(
                        {
                            "group": _TEXT,
                            "name": _TEXT,
                            "verdict": _of("string", enum=["pass", "warn", "fail"]),
                            "said": _TEXT,
                            "fix": _of("string", none=True),
                            "values": _of("object", "what was measured"),
                        }
                    )
                ),
            }
        )
    ],
}
for _command in ("stop", "checkpoint", "cancel", "scale"):
    _DOCUMENTS[_command] = [_DOCUMENTS["status"][1], _SWEEP]
FAILURE = _object({"status": _of("string", enum=["failed"]), "exit_code": _of("integer"), "error": _ERROR})
"""What every command prints instead where it ends with an error."""


def output_schema(command: str) -> dict[str, Any]:
    """Return the schema of what a command prints with ``--json``.

    Raises:
        UsageError: it has no ``--json``, or there is no such command.
    """
    if command not in _DOCUMENTS:
        raise UsageError(
            f"{command}: prints no JSON document{suggestion(command, _DOCUMENTS)}",
            "`launch schema` lists those that do",
        )
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": f"launch {command} --json",
        "type": "object",
        "properties": {"schema_version": {"const": VERSION}},
        "required": ["schema_version"],
        "anyOf": [*_DOCUMENTS[command], FAILURE],
    }


def commands_with_schemas() -> list[str]:
    """List the commands that print a JSON document."""
    return list(_DOCUMENTS)


def for_agents() -> str:
    """Return what an agent or a script should know: ``AGENTS.md``, which is installed beside this file."""
    return Path(__file__).with_name("AGENTS.md").read_text(encoding="utf-8")
