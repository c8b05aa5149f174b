"""The pictures of the documents, made of real runs; run as a module, it writes those in ``docs/pictures`` anew.

It needs Chromium, which draws the terminal's SVG and the page of ``launch report``.
"""

from __future__ import annotations

import io
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from PIL import Image
from rich.console import Console
from rich.terminal_theme import DIMMED_MONOKAI
from rich.text import Text

from tests.helpers.doc_reader import own_files
from tests.helpers.paths import ROOT

FOLDER = ROOT / "docs" / "pictures"
COLUMNS = 80
_COLOURS = 96  # of a palette: a third of the bytes, and no difference to be seen
_FONT = re.compile(r"@font-face \{.*?\}", re.DOTALL)  # those that rich names are on a server
_SIZE = re.compile(r'viewBox="0 0 ([\d.]+) ([\d.]+)"')
_PAGE = (1180, 1105)  # down to the table of epochs
_SCRIPT = """import os

import torch
import torch.distributed as dist

dist.init_process_group("gloo")
rank = dist.get_rank()
for step in range(100):
    gradient = torch.ones(1_000)
    if rank == 2 and step == 40:
        gradient = gradient.reshape(10, 99)
    dist.all_reduce(gradient)
dist.destroy_process_group()
"""


def _session(folder: Path, *commands: str) -> str:
    """Give commands, one after another; return what a terminal shows of it."""
    env = {
        **os.environ,
        "COLUMNS": str(COLUMNS),
        "LOCKSTEP_RUNS": str(folder / "runs"),
        "WANDB_MODE": "disabled",
    }
    env["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{env['PATH']}"
    shown = []
    for command in commands:
        done = subprocess.run(
            command,
            shell=True,
            cwd=folder,
            env=env,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            check=False,
        )
        shown.append(f"$ {command}\n{done.stdout.decode()}")
    return "".join(shown).rstrip("\n")


def _draw_terminal(text: str, title: str, path: Path) -> None:
    """Draw what a terminal shows: commands and the first words of errors stand out."""
    console = Console(width=COLUMNS + 1, record=True, file=io.StringIO(), force_terminal=True)
    styled = Text(text)
    styled.highlight_regex(r"(?m)^\$ .*$", "bold white")
    styled.highlight_regex(r"(?m)^error:", "bold red")
    styled.highlight_regex(r"(?m)^hint:", "bold")
    styled.highlight_regex(
        "[\u2801-\u28ff]+(?: *[\u2801-\u28ff]+)*", "green"
    )  # of another font, with a place of their own
    console.print(styled, soft_wrap=True)
    svg = _FONT.sub("", console.export_svg(title=title, theme=DIMMED_MONOKAI)).replace(
        "Fira Code", "DejaVu Sans Mono"
    )
    found = _SIZE.search(svg)
    assert found is not None
    size = (round(float(found[1])), round(float(found[2])))
    with tempfile.TemporaryDirectory() as work:
        page = Path(work) / "terminal.html"
        page.write_text(f'<body style="margin:0;overflow:hidden">{svg}</body>', encoding="utf-8")
        _photograph(page, size, path)


def _photograph(page: Path, size: tuple[int, int], path: Path) -> None:
    """Let Chromium draw a page, and keep it in few colours."""
    shot = path.with_suffix(".shot.png")
    subprocess.run(
        ["chromium", "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--virtual-time-budget=4000",
         f"--window-size={size[0]},{size[1]}", f"--screenshot={shot}", page.as_uri()],
        check=True, capture_output=True,
    )  # fmt: skip
    with Image.open(shot) as picture:
        picture.convert("RGB").quantize(_COLOURS, dither=Image.Dither.NONE).save(path, optimize=True)
    shot.unlink()


def main() -> None:
    """Train, look at it, let something fail, and draw all of it."""
    folder = Path(tempfile.mkdtemp(prefix="pictures-"))
    try:
        draw_terminals(folder)
        _session(folder, "launch train --cpu 2 --name first", "launch report first")
        _photograph(folder / "first-report.html", _PAGE, FOLDER / "report.png")
    finally:
        shutil.rmtree(folder)


def draw_terminals(folder: Path) -> None:
    """Train README's own model, and let a rank of a script fail."""
    own_files(folder)
    text = _session(folder, "launch train exp.yaml --cpu 2 --name mine", "launch plot mine --metric val/loss")
    _draw_terminal(text.partition("\npicture: ")[0], "launch train", FOLDER / "train.png")
    (folder / "train.py").write_text(_SCRIPT)
    _draw_terminal(_session(folder, "launch run --cpu 4 train.py"), "launch run", FOLDER / "card.png")


if __name__ == "__main__":
    main()
