from __future__ import annotations

from pathlib import Path

from lockstep.data.config.data_look import FoundSetting
from lockstep.launcher.config.found_settings import found_yaml
from lockstep.launcher.config.resolution import resolve, to_yaml


def test_what_was_found_stands_in_comments_that_change_nothing(tmp_path: Path) -> None:
    resolved = resolve("csv_images")
    names = tuple(f"class {number}" for number in range(60))
    found = (
        FoundSetting("data.args.separator", "\t", "in the header of a\nb.csv"),
        FoundSetting("data.args.classes", ("a b", "#c"), "the labels"),
        FoundSetting("data.args.classes", names, "the labels"),
    )
    text = to_yaml(resolved) + found_yaml(found)
    assert '#   data.args.separator: "\\u0009"  # in the header of a\\u000ab.csv' in text.splitlines()
    assert '#   data.args.classes: ["a b", "#c"]  # the labels' in text.splitlines()
    assert text.endswith(' "class 49"]  # the labels; 10 more are in spec.json\n')
    (tmp_path / "c.yaml").write_text(text)
    assert resolve(str(tmp_path / "c.yaml")).config == resolved.config
    assert found_yaml(()) == ""
