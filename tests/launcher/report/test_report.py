"""``launch report``: the page says what the run folder holds, escapes it, and works in a real browser by itself."""

from __future__ import annotations

import json
import math
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from lockstep.data.common import UsageError
from lockstep.launcher.report import report_run
from lockstep.launcher.report.html_page import page, table
from lockstep.launcher.report.report import LARGEST, _panels
from lockstep.launcher.report.run_sections import setting_rows
from lockstep.training.tracking import read_record
from tests.helpers.launch import WATCHDOG
from tests.helpers.run_folders import make_run, step_event

EVIL = "</script><script>window.hacked=1</script><img src=x onerror='window.hacked=1'>"
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
PROBE = """
<script>
window.refused = 0; window.failed = [];
document.addEventListener("securitypolicyviolation", () => { window.refused += 1; });
window.addEventListener("error", (event) => window.failed.push(event.message));
window.addEventListener("load", () => setTimeout(() => {
  const chart = document.querySelector(".chart[data-panel=loss]"), at = chart.getBoundingClientRect();
  const send = (kind, x) => chart.dispatchEvent(
    new PointerEvent(kind, { clientX: at.left + x, clientY: at.top + 50, bubbles: true }));
  const steps = () => [...chart.querySelectorAll("text[text-anchor=middle]")].map((t) => t.textContent);
  send("pointermove", 200);
  const tip = chart.querySelector(".tip").textContent, before = steps();
  const marks = chart.querySelectorAll(".mark").length;
  send("pointerdown", 150); send("pointermove", 200); send("pointerup", 200);
  document.body.dataset.probe = JSON.stringify({
    drawn: +document.body.dataset.drawn, tip, before, zoomed: steps(),
    marks,
    resources: performance.getEntriesByType("resource").length, refused: window.refused, failed: window.failed,
    hacked: window.hacked || 0, width: document.body.scrollWidth,
    outside: [...document.querySelectorAll("h1,h2,p,figure,svg,.tile,.worst div")]
      .filter((e) => e.getBoundingClientRect().right > 400.5).map((e) => e.tagName),
    points: document.querySelectorAll("polyline.point").length,
  });
}, 200));
</script>
<style>html { width: 400px; }</style>
"""


def trained(name: str = "one", steps: int = 3000, worst: tuple[int, ...] = ()) -> Path:
    events: list[dict[str, Any]] = [{"time": 1e9, "event": "start", "step": 0, "world_size": 2}]
    for number in range(1, steps + 1):
        if number == steps // 2:
            events.append({"time": 1e9 + number, "event": "start", "step": number - 1, "world_size": 3})
        events.append(step_event(number, loss=math.exp(-number / 500)))
    events.append({"time": 1e9, "event": "note", "step": 3, "message": EVIL})
    row = {"epoch": 0, "step": steps, "train/loss": 0.25, "val/loss": 0.5, "val/accuracy": 0.75}
    events.append({"time": 1e9, "event": "epoch", "epoch_number": 1, **row})
    error = {"kind": "TrainingError", "message": f"it broke: {EVIL}"}
    folder = make_run(name, *events, outcome={"status": "failed", "exit_code": 1, "error": error})
    (folder / "attempt-1" / "error-1.json").write_text(json.dumps(error))
    (folder / "config.yaml").write_text(
        f"# one\ndata:\n  use: {EVIL}  # exp.yaml:1\n  batch_size: 50  # exp.yaml:2\n"
        "optimizer:\n  groups:\n    a: 1  # default\n"
    )
    (folder / "manifest.json").write_text(json.dumps({"python": "3.11.7", "versions": {"torch": EVIL}}))
    spec = {"config": {"data": {}, "train": {"seed": 0}}, "base": "/", "data": {"class_names": ["cat", EVIL]}}
    (folder / "spec.json").write_text(json.dumps(spec))
    view = {
        "confusion_matrix": [[5, 1], [2, 9]],
        "worst": [{"index": index, "loss": 2.5, "predicted": 0} for index in worst],
    }
    (folder / "evaluation.json").write_text(json.dumps({"splits": {"val": view}}))
    return folder


def browse(path: Path, profile: Path) -> dict[str, Any]:
    """What the page looks like to a script that stands in it before all others, at a width of 400 pixels."""
    probed = path.with_name("probed.html")
    probed.write_text(path.read_text().replace("<title>", PROBE + "<title>", 1))
    command = [str(CHROMIUM), "--headless=new", "--no-sandbox", "--disable-gpu", f"--user-data-dir={profile}"]
    command += ["--virtual-time-budget=10000", "--window-size=500,900", "--dump-dom", f"file://{probed}"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=WATCHDOG, check=True)
    found = re.search(r'data-probe="([^"]*)"', done.stdout)
    assert found is not None, done.stdout[-2000:]
    return json.loads(found[1].replace("&quot;", '"').replace("&amp;", "&").replace("&lt;", "<"))


def test_the_page_holds_what_the_run_folder_holds_and_escapes_all_of_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    trained(worst=(7,))
    out = tmp_path / "new" / "page.html"
    assert report_run("one", out, as_json=True) == 0
    document = json.loads(capsys.readouterr().out)
    text = out.read_text()
    assert (document["report"], document["bytes"]) == (str(out), len(text.encode()))
    assert document["bytes"] < 2_000_000
    assert EVIL not in text
    assert "<img src=x" not in text
    assert text.count("<script") == 2  # the data and the code
    assert not re.search(r"(?:src|href)=[\"']?(?!data:)\w+:", text)
    escaped = "&lt;/script&gt;&lt;script&gt;window.hacked=1"
    for row in ("data.use", escaped, "exp.yaml:2", "1 defaults", "attempt 1: rank 1 failed", "it broke: "):
        assert row in text
    for row in (
        "resumed from step 1,499",
        "3 processes",
        "Confusion matrix: val",
        "<th>cat</th>",
        "versions.torch",
    ):
        assert row in text
    assert 'title="81.8% of' in text  # 9 of 11
    assert "no pictures: " in text  # of a data set that does not exist
    assert "sample 7" in text
    assert "predicted: cat" in text
    assert json.loads(re.search(r'id="data">(.*?)</script>', text)[1])["panels"][0]["marks"] == [1499]


def test_a_file_that_was_named_is_kept_and_the_default_one_is_renewed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained(steps=9)
    monkeypatch.chdir(tmp_path)
    named = tmp_path / "notes.html"
    named.write_text("precious")
    config = tmp_path / "exp.yaml"
    for out, said in ((named, "is there already"), (config, "exp.yaml: not a .html")):
        with pytest.raises(UsageError, match=said):
            report_run("one", out, as_json=False)
    assert (named.read_text(), config.exists()) == ("precious", False)
    report_run("one", named, force=True, as_json=False)
    Path("one-report.html").write_text("of yesterday")
    report_run("one", None, as_json=False)
    assert Path("one-report.html").read_text() == named.read_text()


def test_the_origin_of_each_setting_is_read_from_the_saved_config() -> None:
    text = "# x\na:\n  b: 1   # default\n  c:\n    d: [1, 2] # f.yaml:3\ne: null  # override e=null\nf: {}\n"
    text += 'g:\n  use: "a # b"  # f.yaml:4\n  "x: #": ["\\\\", "\\" # "]  # override g.use=" # "\n'
    assert list(setting_rows(text)) == [
        ("a.b", "1", "default"),
        ("a.c.d", "[1, 2]", "f.yaml:3"),
        ("e", "null", "override e=null"),
        ("g.use", '"a # b"', "f.yaml:4"),
        ('g."x: #"', r'["\\", "\" # "]', 'override g.use=" # "'),
    ]


def test_a_table_without_rows_is_none_and_a_column_of_numbers_is_right_aligned() -> None:
    assert table(("a",), []) == ""
    assert '<td class="n">1,000</td><td>x&amp;y</td>' in table(("a", "b"), [(1000, "x&y"), (0.5, None)])


@pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium (Debian's package chromium)")
def test_in_a_browser_curves_are_drawn_zoomed_and_hovered_and_nothing_leaves_the_page(tmp_path: Path) -> None:
    trained()
    record = read_record(trained("two", 90), 400)
    report_run("one", tmp_path / "page.html", as_json=False)
    found = browse(tmp_path / "page.html", tmp_path / "profile")
    assert (found["hacked"], found["resources"], found["refused"], found["failed"]) == (0, 0, 0, [])
    assert found["drawn"] == 4  # the losses, the accuracy, the learning rate
    assert found["marks"] == 1
    assert (found["outside"], found["width"]) == ([], 400)
    assert "train/loss" in found["tip"]
    assert found["before"] != found["zoomed"]
    data = {
        "panels": _panels([record]),
        "parallel": {
            "axes": ["lr", EVIL, "val/loss"],
            "points": [
                {"run": "a", "values": [0.1, "x", 1.0]},
                {"run": "b", "values": [0.2, EVIL, None]},
            ],
        },
    }
    sections = ['<div id="parallel"></div><div id="charts"></div>']
    (tmp_path / "sweep.html").write_text(page(EVIL, sections, data))
    found = browse(tmp_path / "sweep.html", tmp_path / "profile")
    assert (found["points"], found["hacked"], found["failed"], found["width"]) == (2, 0, [], 400)


def test_a_page_of_many_curves_is_drawn_with_fewer_points_and_stays_under_two_megabytes(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    trained()
    monkeypatch.setattr("lockstep.launcher.report.report.LARGEST", 60_000)
    report_run("one", tmp_path / "page.html", as_json=False)
    assert (tmp_path / "page.html").stat().st_size < 60_000
    assert LARGEST < 2_000_000
