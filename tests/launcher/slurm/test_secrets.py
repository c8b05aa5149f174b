"""What counts as a secret, and what does not: names of variables, values, set-up lines, arguments of programs."""

from __future__ import annotations

import json

import pytest

from lockstep.data.common.errors import UsageError
from lockstep.launcher.config.resolution import resolve
from lockstep.launcher.slurm.exported_environment import for_the_job, withheld_variables
from lockstep.launcher.slurm.secrets import find_secret_option, is_secret_name, looks_like_token

NAMES = (
    "WANDB_API_KEY", "APIKEY", "HF_TOKEN", "GITHUB_PAT", "MYSQL_PWD", "PWD_OF_ME", "PGPASSWORD", "PGPASS", "DB_PASSWD",
    "DB_PASS", "db_pass2", "MY_SECRET", "AWS_CREDENTIALS", "TORCH_AUTH", "SESSION_COOKIE", "SLURM_JWT", "MY_PW",
    "PAT", "MAX_TOKENS",
)  # fmt: skip
PLAIN_NAMES = (
    "PWD", "OLDPWD", "PATH", "LD_LIBRARY_PATH", "HF_HOME", "TOKENIZERS_PARALLELISM", "PATTERN", "AUTHOR", "COMPAT",
    "DATA_PATH", "SPWD", "XPATH",
)  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_a_secret_s_name(name):
    assert is_secret_name(name)


@pytest.mark.parametrize("name", PLAIN_NAMES)
def test_another_name(name):
    assert not is_secret_name(name)


ADDRESSES = {
    "HTTPS_PROXY": [
        "http://me:pw@proxy:3128",
        "http://token@proxy",
        "me:pw@proxy:3128",
        "http://me:p/w@proxy",
    ],
    "http_proxy": ["token@proxy:3128"],
    "WANDB_BASE_URL": ["https://token@h", "https://me:pw@h/x"],
    "MINE": ["postgresql://me:pw@db/x", "x https://t@h"],
}
PLAIN_VALUES = {
    "HTTPS_PROXY": ["http://proxy:3128", "proxy:3128", ""],
    "no_proxy": ["me@h"],
    "WANDB_BASE_URL": ["https://h/x"],
    "PATH": ["/opt/a@1.2/bin:/usr/bin", "b:a@1/bin"],
    "MINE": ["ada@example.org", "a://b c@d"],
}


@pytest.mark.parametrize(("name", "values"), ADDRESSES.items())
def test_an_address_with_any_user_stays_and_is_named(name, values):
    for value in values:
        assert for_the_job({name: value}, ["MINE"]) == {}
        assert withheld_variables({name: value, "OTHER": value}, ["MINE"]) == [name]


@pytest.mark.parametrize(("name", "values"), PLAIN_VALUES.items())
def test_another_value_travels(name, values):
    for value in values:
        assert for_the_job({name: value}, ["MINE"]) == {name: value}
        assert withheld_variables({name: value}, ["MINE"]) == []


HF = "hf_" + "aB3" * 8
REFUSED = {
    "wandb login 0123abc": 'wandb login "$(cat FILE)"',
    "python -m wandb login --relogin '0123abc'": 'wandb login "$(cat FILE)"',
    "wandb login --host https://w.example.org 0123abc": 'wandb login "$(cat FILE)"',
    "huggingface-cli login --token hf_abc": '--token "$(cat FILE)"',
    "hf auth login --token=hf_abc": '--token "$(cat FILE)"',
    "tool --api-key 'abc'": '--api-key "$(cat FILE)"',
    "docker login -u me --password x": '--password "$(cat FILE)"',
    "export HF_TOKEN=hf_abc": 'HF_TOKEN="$(cat FILE)"',
    "export HF_TOKEN=''hf_abc": 'HF_TOKEN="$(cat FILE)"',
    "export HF_TOKEN=\"\"'hf abc'": 'HF_TOKEN="$(cat FILE)"',
    "export HF_TOKEN=$'hf_abc'": 'HF_TOKEN="$(cat FILE)"',
    "export HF_TOKEN=\\hf_abc": 'HF_TOKEN="$(cat FILE)"',
    'export "HF_TOKEN=hf_abc"': 'HF_TOKEN="$(cat FILE)"',
    "HF_TOKEN+=abc": 'HF_TOKEN="$(cat FILE)"',
    "export HF_TOKEN=$(echo hf_abc)": 'HF_TOKEN="$(cat FILE)"',
    "export HF_TOKEN=`echo hf_abc`": 'HF_TOKEN="$(cat FILE)"',
    "export HF_TOKEN=${X:-hf_abc}": 'HF_TOKEN="$(cat FILE)"',
    ": ${HF_TOKEN:=hf_abc}": 'HF_TOKEN="$(cat FILE)"',
    'export A_KEY="$(cat f)" B_KEY=abc': 'B_KEY="$(cat FILE)"',
    "export MYSQL_PWD=123456": 'MYSQL_PWD="$(cat FILE)"',
    "env GITHUB_PAT=abc tool": 'GITHUB_PAT="$(cat FILE)"',
    "read HF_TOKEN <<< hf_abc": "< FILE",
    "wandb login <<<'0123abc'": "< FILE",
    "echo 0123abc | wandb login --relogin": "< FILE",
    "curl -H 'Authorization: Bearer abc' https://h": '"Authorization: Bearer $(cat FILE)"',
    "git clone https://me:pw@github.com/x": '"https://$(cat FILE)@…"',
    "pip install git+https://abc@github.com/x": '"https://$(cat FILE)@…"',
    f"tool {HF}": '"$(cat FILE)"',
}  # fmt: skip
TAKEN = (
    'export HF_TOKEN="$(cat ~/.hf_token)"', "export HF_TOKEN=$(< ~/.hf_token)", "export HF_TOKEN=`cat ~/.t`",
    "export HF_TOKEN=$MINE; true", 'export HF_TOKEN="${MINE}"', "export HF_TOKEN=${MINE:-$(cat ~/.t)}", "HF_TOKEN=",
    'export HF_TOKEN=$(pass show "$(whoami)/hf")', "unset HF_TOKEN", "export SSH_KEY_FILE=$HOME/.ssh/id",
    "export TOKENIZERS_PARALLELISM=false", "export MAX_TOKENS=4096", "export PWD=/x", "export DATA_PATH=/x",
    'wandb login "$(cat ~/.wandb_key)"', "wandb login --relogin < ~/.wandb_key", "wandb login || true",
    "wandb login --host https://w.example.org $WANDB_KEY", "cat ~/.t | wandb login", 'echo "$X" | wandb login',
    'hf auth login --token "$(cat ~/.t)"', "hf download m --use-auth-token --quiet", "tool --tokenizer bert",
    "tool --max-tokens 3",
    "sort --key 2 --sort-key=3 f", "cut --key=2 f", "tool --eos-token x", 'read A B <<< "$LIST"', "echo a | tr a b",
    "git clone git@github.com:x/y", "git clone ssh://git@github.com/x", "pip install git+https://github.com/x@main",
    'curl -H "Authorization: Bearer $(cat ~/.t)" https://h', "source ~/venv/bin/activate", "ulimit -c 0",
    "conda activate task-abcdefghijklmnopqrstuvwxyz", "export OMP_NUM_THREADS=4",
)  # fmt: skip


@pytest.mark.parametrize(("line", "instead"), REFUSED.items())
def test_a_set_up_line_that_has_a_secret_is_refused_with_what_to_write_instead(line, instead):
    with pytest.raises(UsageError, match="holds a secret") as caught:
        resolve("digits", [f"slurm.setup={json.dumps([line])}"])
    assert f"; write {instead}" in caught.value.message


@pytest.mark.parametrize("line", TAKEN)
def test_another_set_up_line_is_taken(line):
    assert resolve("digits", [f"slurm.setup={json.dumps([line])}"]).slurm.setup == (line,)


@pytest.mark.parametrize(
    "argument",
    ["--api-key", "--hf-token=x", "--token", "-token=x", "--db-password", "--client_secret", "--pwd"],
)
def test_an_argument_that_sounds_like_a_secret(argument):
    assert find_secret_option(argument) == argument.partition("=")[0]


@pytest.mark.parametrize(
    "argument",
    [
        "--tokenizer",
        "--max-tokens",
        "--eos-token",
        "--tokens=3",
        "--key",
        "--sort-key",
        "--token-file",
        "--api-key-file",
    ],
)
def test_another_argument(argument):
    assert find_secret_option(argument) == ""


def test_a_token_is_known_by_its_form():
    assert looks_like_token(HF)
    assert looks_like_token("--x=ghp_" + "a1" * 18)
    assert not looks_like_token("hf_internal")
    assert not looks_like_token("task-abcdefghijklmnopqrstuvwxyz")
    assert not looks_like_token("0123456789abcdef0123456789abcdef01234567")
