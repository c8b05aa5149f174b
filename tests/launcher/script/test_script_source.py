"""What ``launch run`` takes for a program, known without running it."""

from __future__ import annotations

from pathlib import Path

import pytest

from lockstep.data.common.errors import UsageError
from lockstep.launcher.script.script_source import notes_on_arguments, read_source


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("w.sh", "#!/bin/sh\necho hello\n", "not a Python file"),
        ("w.sh", "echo\n", "not a Python file"),  # would compile
        ("w", "#!/usr/bin/env bash\npwd\n", "not a Python file"),
        ("w", "if true; then echo; fi\n", "not a Python file"),
        ("program", "\x7fELF\0\0", "not a Python file"),
        ("n.ipynb", "{}", "not a Python file"),
        ("exp.yaml", "train: {epochs: 1}\n", "a config, not a script"),
        ("exp.yml", "", "a config, not a script"),
    ],
)
def test_what_is_no_python_is_refused(tmp_path: Path, name: str, text: str, words: str) -> None:
    path = tmp_path / name
    path.write_text(text)
    with pytest.raises(UsageError, match=words) as caught:
        read_source([str(path)])
    assert caught.value.exit_status == 2
    assert ("launch train" in caught.value.hint) == name.startswith("exp")


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("x.py", "return return\n"),  # the rank says what is wrong with it, as Python does
        ("x.py", "#!/bin/sh\nprint(1)\n"),
        ("x", "print(1)\n"),
        ("x", "#!/usr/bin/env python3\nprint(1)\n"),
        ("x.sh", "#!/usr/bin/env python3\nprint(1)\n"),
        ("x.script", "print(1)\n"),
    ],
)
def test_python_may_have_any_name(tmp_path: Path, name: str, text: str) -> None:
    path = tmp_path / name
    path.write_text(text)
    assert read_source([str(path)]) == text


@pytest.mark.parametrize(
    ("line", "source", "option"),
    [
        ("x.py --cpu 2", "print(1)", "--cpu"),
        ("x.py --cpu=2", "print(1)", "--cpu"),
        ("x.py a --nproc_per_node 2 --cpu 2", "print(1)", "--nproc_per_node"),
        ("-m package.x --gpus 2", "", "--gpus"),
        ("x.py --cpu 2", "parser.add_argument('--cpu')", ""),
        ("x.py --node-rank 2", "class Options:\n    node_rank: int", ""),
        ("x.py --epochs 2 cpu", "print(1)", ""),
        ("x.py", "", ""),
    ],
)
def test_an_option_behind_the_script_is_noted_unless_the_script_knows_it(
    line: str, source: str, option: str
) -> None:
    notes = notes_on_arguments(line.split(), source)
    assert len(notes) == bool(option)
    assert all(note.startswith(f"{option} stands behind ") for note in notes)
