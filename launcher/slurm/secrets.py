"""What counts as a secret in a job's variables, set-up lines and arguments: by its name, its place or its form.

SLURM stores a job's environment, and the run folder its set-up lines and arguments. The rules are strict, and blind to
what is meant: a false alarm costs a file with the value in it, a miss costs the secret. ``slurm/README.md`` has them
in plain words.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Annotated

from pydantic import AfterValidator

_NAME = re.compile(
    r"KEY|TOKEN(?!IZ)|SECRET|PASS(WORD|WD|PHRASE)?\d*(_|$)|CREDENTIAL|COOKIE"
    r"|(^|_)(AUTH|BEARER|JWT|PAT|PW|(?!^)PWD|PWD(?!$))\d*(_|$)",
    re.IGNORECASE,
)
_TOKEN = re.compile(
    r"\b((hf|gh[opsru]|github_pat|glpat|xox[abp])[_-][A-Za-z0-9_-]{16,}|sk-(proj-)?[A-Za-z0-9]{20,}|AKIA[A-Z0-9]{16})\b"
)
"""How the tokens of Hugging Face, GitHub, GitLab, Slack, OpenAI and AWS look."""
_OPTION = (
    r"--?(?:token|(?:[\w-]*[-_])?(?:secret|password|passwd|passphrase|pwd|"
    r"(?:api|access|auth|hf|hub|bearer|private|wandb|github|gitlab)[-_]?(?:key|token)))(?=$|[=\s])"
)
_ANY_USER = re.compile(r"://\S*@")
_PROXY_USER = re.compile(r"[^\s/@]+@")

_READ = "\0"  # in place of what the shell itself will put there; no line has it
_SUBSTITUTION = re.compile(
    r"\$\((?!\s*(?:echo|printf)\b)[^()]*(?:\([^()]*\)[^()]*)*\)|`(?!\s*(?:echo|printf)\b)[^`]*`"
    r"|\$\w+|\$\{\w+(?:[%#/^,][^}]*|:?[-=+?]\0?)?\}"
)
_VALUE = r"""((?:'[^']*'|"[^"]*"|\\.|[^\s;&|()<>"'])*)"""
_ASSIGNED = re.compile(r"(?<![\w-])(\w+)\+?=" + _VALUE)
_DEFAULT = re.compile(r"\$\{(\w+):?[-=+][^}]")
_GIVEN = re.compile(rf"(?<!\S)({_OPTION})[=\s]\s*(?!-){_VALUE}", re.IGNORECASE)
_LOGIN = re.compile(r"\bwandb\s+login\b([^;&|<>]*)")
_HERE = re.compile(r"<<<\s*" + _VALUE)
_PIPED = re.compile(r"\b(?:echo|printf)\s([^|;&\0]*)\|[^|;&]*\b(?:login|read)\b")
_HEADER = re.compile(r"\b(?:bearer|authorization:)\s+(?!bearer\b)([^\s\0])", re.IGNORECASE)
_URL_USER = re.compile(r"https?://[^/\s\0]*@")


def is_secret_name(name: str) -> bool:
    """Check whether a variable of this name must never travel with a job; PWD is a folder, MYSQL_PWD a password."""
    return _NAME.search(name) is not None


def has_credentials_in_url(name: str, value: str) -> bool:
    """Check whether a variable holds an address with a user part, which may contain a password or be a token."""
    is_proxy = name.lower().endswith("_proxy") and name.lower() != "no_proxy"
    return _ANY_USER.search(value) is not None or (is_proxy and _PROXY_USER.match(value) is not None)


def find_secret_option(argument: str) -> str:
    """Return the name of a program's option that sounds like a secret; empty for any other argument."""
    found = re.match(_OPTION, argument, re.IGNORECASE)
    return found[0] if found else ""


def looks_like_token(text: str) -> bool:
    """Check whether a text contains something of the form of a token."""
    return _TOKEN.search(text) is not None


def find_secret(line: str) -> str:
    """Describe a secret that is written out in a line of shell, and what to write instead; empty if there is none."""
    read = _SUBSTITUTION.sub(_READ, _SUBSTITUTION.sub(_READ, line))
    if found := next(_written_out(line, read), None):
        return "holds a secret, {}; write {} with a file of yours instead".format(*found)
    return ""


def _written_out(line: str, read: str) -> Iterator[tuple[str, str]]:
    """Find each secret, and what should stand in its place."""
    for name in _assigned(read):
        yield name, f'{name}="$(cat FILE)"'
    for option, value in _GIVEN.findall(read):
        if _is_literal(value):
            yield option, f'{option} "$(cat FILE)"'
    words = " ".join(_LOGIN.findall(read)).split()
    if any(_is_literal(word) for word in words if not word.startswith(("-", "http"))):
        yield "the key of wandb login", 'wandb login "$(cat FILE)"'
    yield from _read_or_sent(read)
    if looks_like_token(line):
        yield "a token", '"$(cat FILE)"'


def _assigned(read: str) -> Iterator[str]:
    """Find the names of secret variables that get a literal value."""
    for name, value in _ASSIGNED.findall(read):
        if is_secret_name(name) and _is_literal(value) and not _is_count(name, value):
            yield name
    yield from filter(is_secret_name, _DEFAULT.findall(read))


def _read_or_sent(read: str) -> Iterator[tuple[str, str]]:
    """Find secrets that go to a command's standard input or with an HTTP request."""
    if any(map(_is_literal, _HERE.findall(read))) or _PIPED.search(read):
        yield "what a command is to read", "< FILE"
    if _HEADER.search(read):
        yield "a header", '"Authorization: Bearer $(cat FILE)"'
    if _URL_USER.search(read):
        yield "the user of an address", '"https://$(cat FILE)@…"'


def _is_literal(value: str) -> bool:
    """Check whether more is written out than what the shell substitutes, or a path below it."""
    bare = re.sub(r"[\"']", "", value)
    return bare.strip(_READ) != "" and not bare.startswith(f"{_READ}/")


def _is_count(name: str, value: str) -> bool:
    return name.upper().endswith("TOKENS") and re.fullmatch(r"\d{1,9}", value) is not None


def _line(value: str) -> str:
    if not value.replace("\t", " ").isprintable() or not value.strip():
        raise ValueError("must be one line of shell without control characters")
    if value.rstrip().endswith("\\"):
        raise ValueError("must be a whole command: the backslash at its end would swallow the next line")
    if secret := find_secret(value):
        raise ValueError(secret)
    return value


def _variable(name: str) -> str:
    if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]{0,254}", name):
        raise ValueError("must be the name of a variable")
    if is_secret_name(name):
        raise ValueError(
            "looks like a secret, which SLURM would store; let a set-up line read it from a file of yours"
        )
    return name


Line = Annotated[str, AfterValidator(_line)]
"""A set-up line."""
Variable = Annotated[str, AfterValidator(_variable)]
"""The name of one that travels."""
