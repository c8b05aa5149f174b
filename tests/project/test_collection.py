"""Every process collects the same tests: pytest-xdist runs none where one name differs."""

import gzip
import os
import subprocess
import sys

import pytest

from tests.conftest import pytest_make_parametrize_id
from tests.helpers.paths import ROOT


@pytest.mark.parametrize("value", [gzip.compress(b"now"), b"a\tb", "Käse".encode("latin-1")])
def test_unreadable_bytes_are_named_by_their_argument(value: bytes) -> None:
    assert pytest_make_parametrize_id(value, "content") == "content"


@pytest.mark.parametrize("value", [b"path,label", "text", 3])
def test_what_can_be_read_keeps_its_name(value: object) -> None:
    assert pytest_make_parametrize_id(value, "content") is None


@pytest.mark.exhaustive
def test_names_depend_neither_on_the_second_nor_on_the_seed_of_hashes() -> None:
    def collected(seed: str) -> list[str]:
        command = [sys.executable, "-m", "pytest", "-o", "addopts=-m ''", "--collect-only", "-q"]
        env = {**os.environ, "PYTHONHASHSEED": seed}
        done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, check=True)
        return [line for line in done.stdout.splitlines() if "::" in line]

    first = collected("1")
    assert len(first) > 1000
    assert collected("2") == first
