import math
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from lockstep.data.common.errors import UsageError
from lockstep.launcher.config.yaml_file import (
    MAX_BYTES,
    MAX_DEPTH,
    MAX_PROBLEMS,
    listing,
    parse_value,
    read_yaml,
)
from lockstep.launcher.config.yaml_text import format_value, quoted


@pytest.fixture
def read(tmp_path):
    def read(text):
        path = tmp_path / "a.yaml"
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return read_yaml(path, "a.yaml")

    return read


def values(read, text):
    file = read(text)
    assert file.problems == []
    return file.values


def failure(read, text):
    with pytest.raises(UsageError) as caught:
        read(text)
    return caught.value.message


SCALARS = [
    ("1e-3", 1e-3),
    ("1.e3", 1000.0),
    (".5", 0.5),
    ("-.5E+1", -5.0),
    ("017", 17),
    ("0o17", 15),
    ("0xFF", 255),
    ("+12", 12),
    ("-0", 0),
    ("1_000", "1_000"),
    ("no", "no"),
    ("yes", "yes"),
    ("on", "on"),
    ("Off", "Off"),
    ("y", "y"),
    ("true", True),
    ("False", False),
    ("tRUE", "tRUE"),
    ("~", None),
    ("null", None),
    ("NULL", None),
    ("nULL", "nULL"),
    ("12:30:00", "12:30:00"),
    ("2024-01-31", "2024-01-31"),
    ("2024-01-31T10:00:00Z", "2024-01-31T10:00:00Z"),
    ("0b11", "0b11"),
    ("1e", "1e"),
    ("e3", "e3"),
    (".", "."),
    ("=", "="),
    ("nan", "nan"),
    (".inf", math.inf),
    ("-.INF", -math.inf),
    ("'5'", "5"),
    ('"no"', "no"),
    ("18446744073709551615", 2**64 - 1),
]


@pytest.mark.parametrize(("text", "value"), SCALARS)
def test_scalars_follow_yaml_1_2(read, text, value):
    for found in (values(read, f"a: {text}\n")["a"], parse_value(text)[0], parse_value(f"[{text}]")[0][0]):
        assert (found, type(found)) == (value, type(value))


def test_not_a_number(read):
    assert math.isnan(values(read, "a: .nan")["a"])


@pytest.mark.parametrize("text", ["", "# only a comment\n", "---\n", "\ufeff", "{}"])
def test_an_empty_file_is_an_empty_mapping(read, text):
    assert values(read, text) == {}


def test_a_byte_order_mark_and_windows_line_ends_are_no_matter(read):
    assert values(read, "\ufeffa: 1\r\nb: x\r\n") == {"a": 1, "b": "x"}


def test_lines_of_nested_keys_and_list_items(read):
    text = "a:\n  b: 1\n\n  c:\n    - x\n    - {d: 2,\n       e: 3}\nf: {g: [1,\n  2]}\nh: |\n  text\ni: 1\n"
    lines = read(text).lines
    expected = {
        ("a",): 1,
        ("a", "b"): 2,
        ("a", "c"): 4,
        ("a", "c", 0): 5,
        ("a", "c", 1): 6,
        ("a", "c", 1, "e"): 7,
    }
    expected |= {("f", "g"): 8, ("f", "g", 1): 9, ("h",): 10, ("i",): 12}
    assert {path: lines[path] for path in expected} == expected


REFUSED = [
    ("a: 1\nb: 2\na: 3", 3, '"a" is set twice; first on line 1'),
    ("a:\n  b: 1\n  'b': 2", 3, '"b" is set twice; first on line 2'),
    ("a: &x 1", 1, "anchors (&x) are not allowed; put text in quotes"),
    ("a: *x", 1, "aliases (*x) are not allowed; put text in quotes"),
    (
        "a: !!python/object/apply:os.system ['touch /tmp/no']",
        1,
        "tags (tag:yaml.org,2002:python/object/apply",
    ),
    ("a: !!str 5", 1, "tags (tag:yaml.org,2002:str) are not allowed"),
    ("a: !mine {b: 1}", 1, "tags (!mine) are not allowed"),
    ("a:\n  <<: {b: 1}", 2, "merge keys (<<) are not allowed"),
    ("a: 1\n--- \nb: 2", 2, "a second document begins here"),
    ("a: 1\n5: x", 2, "a key must be text, not a number: put it in quotes"),
    ("true: x", 1, "a key must be text, not true or false"),
    ("a: {null: x}", 1, "a key must be text, not nothing"),
    ("a: 1\n? [b, c]\n: 2", 2, "a key must be text, not a list"),
    ("a: 1\n? {b: c}\n: 2", 2, "a key must be text, not a mapping"),
    ('"": 1', 1, "a key must have 1 to 200 characters"),
    ("k" * 201 + ": 1", 1, "a key must have 1 to 200 characters"),
    ("a: 18446744073709551616", 1, "a whole number must fit 64 bits"),
    ("a: " + "9" * 5000, 1, "a whole number must fit 64 bits"),
    ("a: 0x" + "f" * 5000, 1, "a whole number must fit 64 bits"),
    ('a: "\\ud800"', 1, "text that is not valid Unicode"),
    ("- a\n- b", 1, 'the file must hold keys, such as "train: {epochs: 5}", not a list'),
    ("just words", 1, "not text"),
    ("!!python/none", 1, "tags"),
]


@pytest.mark.parametrize(("text", "line", "message"), REFUSED)
def test_what_is_refused(read, text, line, message):
    [(found, words)] = read(text).problems
    assert (found, words[: len(message)]) == (line, message) or message in words
    assert found == line


def test_a_refused_value_is_absent_and_the_rest_is_there(read):
    file = read("a: *x\nb: [1, !!set {}]\nc: {d: 1, e: !t 2}\nf: 3\n? [x]\n: 4\n")
    assert file.values == {"c": {"d": 1}, "f": 3}
    assert [line for line, _ in file.problems] == [1, 2, 3, 5]


def test_a_quoted_merge_key_is_a_key(read):
    assert values(read, "'<<': 1") == {"<<": 1}


def test_all_findings_at_once(read):
    file = read("a: 1\na: 2\nb: &x [1]\nc: *x\n7: d\ne: !t 1\n")
    assert [line for line, _ in file.problems] == [2, 3, 4, 5, 6]


SYNTAX = [
    ("a: [1, 2\nb: 3\n", "a.yaml:2: not valid YAML: expected ',' or ']'", "that begins on line 1"),
    ("a: 'x\n", "a.yaml:2: not valid YAML: found unexpected end of stream", "begins on line 1"),
    ("a:\n\tb: 1\n", "a.yaml:2: not valid YAML: found character '\\t'", "indent with spaces, not with tabs"),
    ("a: *.png", "a.yaml:1: not valid YAML: expected alphabetic", "; put text in quotes"),
    ("a: @home", "a.yaml:1: not valid YAML: found character '@'", "; put text in quotes"),
    ("a: b: c", "a.yaml:1: not valid YAML: mapping values are not allowed here", ""),
    ("a: 1\nb: \x07", "a.yaml:2: the character U+0007 is not allowed", ""),
    ('x: 1\na: "\\UFFFFFFFF"', "a.yaml:2: not valid YAML: ", ""),
    ("%YAML 3.0\n---\na: 1", "a.yaml:1: not valid YAML: found incompatible YAML document", ""),
    ("a: !x!y z", "a.yaml:1: not valid YAML: found undefined tag handle", ""),
    ("a: 1\na: 2\nb: [", 'a.yaml:2: "a" is set twice; first on line 1\na.yaml:3: not valid YAML', ""),
]


@pytest.mark.parametrize(("text", "start", "also"), SYNTAX)
def test_syntax_errors_name_the_line(read, text, start, also):
    message = failure(read, text)
    assert message.startswith(start)
    assert also in message


def nested(depth):
    return "a: " + "[" * (depth - 1) + "]" * (depth - 1)


def test_depth(read):
    assert values(read, nested(MAX_DEPTH))
    assert failure(read, "x: 1\n" + nested(MAX_DEPTH + 1)) == "a.yaml:2: more than 20 levels of nesting"


@pytest.mark.parametrize("text", ["[", "{a: ", "- ", "? ", "[{"])
def test_a_megabyte_of_nesting_stops_at_once(read, text):
    message = failure(read, "a:\n  " + text * ((MAX_BYTES - 10) // len(text)))
    assert "more than 20 levels" in message or "not valid YAML" in message


def test_a_bomb_of_aliases_is_refused_in_a_screen(read):
    bomb = "a: &a [x, x]\n" + "".join(
        f"{new}: &{new} [{', '.join(['*' + old] * 9)}]\n"
        for old, new in zip("abcdefgh", "bcdefghi", strict=True)
    )
    file = read(bomb)
    assert file.values == {"a": ["x", "x"]}
    text = listing(f"{line}: {message}" for line, message in file.problems)
    assert len(text.splitlines()) <= MAX_PROBLEMS + 1


def test_listing_says_how_many_more():
    assert listing(str(n) for n in range(30)).splitlines()[-1] == "... and 10 more"
    assert listing(["a", "b", "a"]) == "a\nb"


def test_size(read):
    head = b"a: 1\n#"
    assert read(head + b"x" * (MAX_BYTES - len(head))).values == {"a": 1}
    assert failure(read, head + b"x" * (MAX_BYTES - len(head) + 1)).startswith("a.yaml: larger than 1 MiB")


def test_an_endless_file():
    assert "larger than 1 MiB" in _failure_of_path("/dev/zero")


def _failure_of_path(path):
    with pytest.raises(UsageError) as caught:
        read_yaml(Path(path))
    return caught.value.message


def test_not_utf_8(read):
    assert failure(read, b"a: 1\nb: caf\xe9\n") == "a.yaml:2: not UTF-8 text"
    assert "not UTF-8" in failure(read, "a: 1".encode("utf-16"))


def test_a_folder(tmp_path):
    assert "is a folder, not a config file" in _failure_of_path(tmp_path)


def test_an_absent_file(tmp_path):
    assert "cannot be read: No such file" in _failure_of_path(tmp_path / "a.yaml")


def test_a_name_with_nul():
    assert "cannot be read" in _failure_of_path("a\0b.yaml")


def test_a_name_that_is_too_long():
    assert "File name too long" in _failure_of_path("a" * 300 + ".yaml")


def test_an_unreadable_file(tmp_path, monkeypatch):
    def refuse(*args, **kwargs):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", refuse)
    assert _failure_of_path(tmp_path / "a.yaml").endswith("a.yaml: cannot be read: Permission denied")


VALUES = [
    ("run #5", "run #5"),
    ("a: b", "a: b"),
    ("- x", "- x"),
    ("{hidden: [64, 32]}", {"hidden": [64, 32]}),
    (" 5 ", 5),
    ("", None),
    ("'a b'", "a b"),
    ("./file.py:model", "./file.py:model"),
    ("[1, {a: no}]", [1, {"a": "no"}]),
]


@pytest.mark.parametrize(("text", "value"), VALUES)
def test_values_on_the_command_line(text, value):
    assert parse_value(text) == (value, [])


BAD_VALUES = [
    ("!!python/object:os.system x", "tags"),
    ("*x", "aliases"),
    ("&x 1", "anchors"),
    ("[1, 2", "not valid YAML"),
    ("[1] [2]", "not valid YAML"),
    ("{a: 1, a: 2}", "set twice"),
    ("@x", "not valid YAML"),
    ("| x", "not valid YAML"),
    ("caf\udce9", "not valid Unicode"),
    ("99999999999999999999", "64 bits"),
    ("[" * 21 + "]" * 21, "levels of nesting"),
]


@pytest.mark.parametrize(("text", "message"), BAD_VALUES)
def test_bad_values_on_the_command_line(text, message):
    assert message in parse_value(text)[1][0]


def test_the_depth_of_a_value_counts_from_its_place():
    assert parse_value("[[1]]", 18)[1] == []
    assert parse_value("[[1]]", 19)[1] == ["more than 20 levels of nesting"]


_TEXT = st.text(st.characters(exclude_categories=["Cs"]))
_SCALARS = (
    st.none() | st.booleans() | st.integers(-(2**64) + 1, 2**64 - 1) | st.floats(allow_nan=False) | _TEXT
)
_KEYS = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=50)
_VALUES = st.recursive(
    _SCALARS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(_KEYS, inner, max_size=4),
    max_leaves=12,
)


@given(_VALUES)
def test_a_formatted_value_reads_back(value):
    text = format_value(value)
    assert text.isprintable()
    found, problems = parse_value(text)
    assert (found, problems) == (value, [])
    assert repr(found) == repr(value)


@given(_VALUES)
def test_a_formatted_value_reads_back_from_a_file(tmp_path_factory, value):
    path = tmp_path_factory.getbasetemp() / "value.yaml"
    path.write_text(f"{quoted('a key')}: {format_value(value)}  # a comment\n", encoding="utf-8")
    assert repr(read_yaml(path).values) == repr({"a key": value})


@given(st.dictionaries(_KEYS.filter(str.isprintable), st.integers() | _TEXT, max_size=5))
def test_what_pyyaml_writes_is_read(tmp_path_factory, value):
    path = tmp_path_factory.getbasetemp() / "dumped.yaml"
    kept = {key: item for key, item in value.items() if isinstance(item, str) or abs(item) < 2**64}
    path.write_text(yaml.safe_dump(kept, default_style='"'), encoding="utf-8")
    file = read_yaml(path)
    assert all("tags" in message for _, message in file.problems)  # safe_dump tags the numbers it quotes
    assert file.values == {key: item for key, item in kept.items() if isinstance(item, str)}


@given(st.text(st.sampled_from("ab:{}[]'\"#&*!|>%@-?,\n \t0e.~<\\ud\r\x85\ufeff")))
def test_any_text_is_read_or_refused(tmp_path_factory, text):
    path = tmp_path_factory.getbasetemp() / "any.yaml"
    path.write_text(text, encoding="utf-8", newline="")
    try:
        found = read_yaml(path).values
    except UsageError as error:
        found = error
    assert isinstance(found, dict) or found.message.startswith(str(path))
    assert isinstance(parse_value(text)[1], list)
