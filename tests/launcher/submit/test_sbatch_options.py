"""Which text reaches sbatch, in which option, and which is refused."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lockstep.data.common.errors import UsageError
from lockstep.launcher.slurm.options import (
    RESERVED_BY_LAUNCHER,
    SlurmConfig,
    check_sbatch_option,
    flags_by_sbatch_name,
)
from lockstep.launcher.submit.sbatch_arguments import refuse_path, sbatch_options, tasks_of, warning
from tests.helpers.slurm.job_options import ODD_TEXTS, options_of

TEXT_FIELDS = (
    "partition", "account", "qos", "constraint", "gres", "exclude", "reservation", "mem", "mail_user",
    "mail_type", "container", "time", "gpus",
)  # fmt: skip
LIST_FIELDS = ("modules", "container_mounts", "env")
HARMLESS = re.compile(
    r"[A-Za-z0-9_.,:/@%+=&|*()\[\]#-]*"
)  # no quote, space, $, `, ;, <, >, \ or control character


def one_argument_each(options: list[str], allowed: int) -> None:
    """None of the options is read as anything else than itself."""
    assert len(options) == allowed
    assert all(option.startswith("--") and "\n" not in option and "\0" not in option for option in options)


@pytest.mark.parametrize("field", [*TEXT_FIELDS, *LIST_FIELDS, "sbatch"])
@pytest.mark.parametrize("text", ODD_TEXTS)
def test_odd_text_is_refused_with_the_option_s_name_or_harmless(field, text):
    flag = {"modules": "module", "container_mounts": "container-mount"}.get(field, field.replace("_", "-"))
    options, explain_refusal = asked_with(field, text)
    assert explain_refusal.isprintable()
    assert options is not None or explain_refusal.startswith(f"--{flag}")
    kept = getattr(options.slurm, field) if options else None
    for item in kept if isinstance(kept, tuple) else kept.values() if isinstance(kept, dict) else [kept]:
        assert item is None or HARMLESS.fullmatch(str(item))
        assert not str(item).startswith("-")


def asked_with(field: str, text: str):
    """The options, or the words of the refusal."""
    value = [text] if field in LIST_FIELDS else {"comment": text} if field == "sbatch" else text
    try:
        return options_of(**{field: value}), ""
    except UsageError as error:
        return None, error.message


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow], derandomize=True)
@given(st.sampled_from((*TEXT_FIELDS, *LIST_FIELDS, "sbatch")), st.text(max_size=40))
def test_any_text_is_refused_or_harmless(field, text):
    _refused_or_harmless(field, text)


@pytest.mark.exhaustive
@settings(max_examples=20_000, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.sampled_from((*TEXT_FIELDS, *LIST_FIELDS, "sbatch")),
    st.text(max_size=40) | st.text("abz09_.,:-[]()|&*=@%+/#$`'\" \n\\", max_size=30),
)
def test_any_text_is_refused_or_harmless_in_full(field, text):
    _refused_or_harmless(field, text)


def _refused_or_harmless(field: str, text: str) -> None:
    options, explain_refusal = asked_with(field, text)
    assert explain_refusal.replace("\n", "").isprintable()
    if options is None:
        return
    base = sbatch_options(Path("/r/x"), SlurmConfig(), cores=None, requeue=False)
    argv = sbatch_options(Path("/r/x"), options.slurm, cores=None, requeue=False)
    for option in argv:
        assert option.startswith("--")
        assert HARMLESS.fullmatch(option), option
        assert not option.partition("=")[2].startswith("-")
    assert len(argv) - len(base) <= 1


@pytest.mark.parametrize(
    "option",
    [
        *RESERVED_BY_LAUNCHER,
        *flags_by_sbatch_name(),
        "outp",
        "nod",
        "exp",
        "dep",
        "sig",
        "wra",
        "a b",
        "x=y",
        "-o",
        "",
        "O",
    ],
)
def test_sbatch_s_options_that_are_ours_cannot_be_set_not_even_abbreviated(option):
    with pytest.raises(UsageError, match="--sbatch"):
        options_of(sbatch={option: "x"})


@pytest.mark.parametrize(
    "option", ["nice", "exclusive", "licenses", "gres-flags", "time-min", "mem-per-gpu", "nodelist"]
)
def test_sbatch_s_other_options_can(option):
    assert check_sbatch_option(option) == ""
    argv = sbatch_options(Path("/r/x"), options_of(sbatch={option: "3"}).slurm, cores=None, requeue=False)
    assert f"--{option}=3" in argv


@pytest.mark.parametrize(
    ("time", "grace", "seconds"),
    [(None, None, 120), ("1min", None, 12), ("4h", 300, 360), ("10min", 300, 120), ("30s", None, 10)],
)
def test_slurm_s_signal_comes_well_before_the_end_and_not_before_the_middle(time, grace, seconds):
    assert warning(options_of(time=time, grace=grace).slurm) == seconds


@pytest.mark.parametrize("grace", [float("inf"), float("nan"), -1, 65_001])
def test_a_grace_is_a_number_that_slurm_can_count(grace):
    with pytest.raises(UsageError, match=r"--grace = .* must be at (least|most)"):
        options_of(grace=grace)
    assert warning(options_of(grace=65_000).slurm) < 2**16


@pytest.mark.parametrize("name", ["a\nb", "a\\b", "\x1b", "a\tb"])
def test_a_path_that_slurm_would_take_apart_is_refused(name):
    with pytest.raises(UsageError, match="control characters"):
        refuse_path(Path("/r", name), "a run folder")


def _path_is_refused_or_itself(text: str) -> None:
    path = Path("/r") / text.lstrip("/")
    try:
        refuse_path(path, "a run folder")
    except UsageError as error:
        explain_refusal = error.message
    else:
        explain_refusal = ""
        chdir, output = sbatch_options(path, SlurmConfig(), cores=None, requeue=False)[1:3]
        assert chdir == f"--chdir={path}"
        fields = re.sub(
            "%(.)", lambda found: {"%": "%", "j": "7"}[found[1]], output.removeprefix("--output=")
        )
        assert fields == f"{path}/slurm/job-7.log"
        assert all(option.isprintable() for option in (chdir, output))
    assert explain_refusal.isprintable()


@settings(max_examples=100, deadline=None, derandomize=True)
@given(st.text(st.characters(exclude_characters="\0"), max_size=40))
def test_any_path_is_refused_or_itself(text):
    _path_is_refused_or_itself(text)


@pytest.mark.exhaustive
@settings(max_examples=20_000, deadline=None)
@given(
    st.text(st.characters(exclude_characters="\0"), max_size=40) | st.text("%jxa \n'\"$()`\\-;", max_size=20)
)
def test_any_path_is_refused_or_itself_in_full(text):
    _path_is_refused_or_itself(text)


def test_percent_in_a_path_is_itself():
    argv = sbatch_options(Path("/a %j/r"), SlurmConfig(), cores=None, requeue=False)
    assert "--output=/a %%j/r/slurm/job-%j.log" in argv
    assert "--chdir=/a %j/r" in argv
    argv = sbatch_options(Path("/a %j/r"), SlurmConfig(), cores=None, requeue=False, tasks="0-3%2")
    assert {"--output=/a %%j/r-%3a/slurm/job-%A_%a.log", "--array=0-3%2"} <= set(argv)


@pytest.mark.parametrize(
    ("indices", "at_once", "text"),
    [([0], None, "0"), ([0, 1, 2], 2, "0-2%2"), ([7, 1, 2, 9, 8], None, "1-2,7-9"), ([0, 2], 1, "0,2%1")],
)
def test_points_as_slurm_names_them(indices: list[int], at_once: int | None, text: str) -> None:
    assert tasks_of(indices, at_once) == text
