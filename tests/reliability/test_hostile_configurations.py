"""Promise 18: a mutated configuration is valid, or an error that names the key and the reason.

Never a traceback, and never a minute or a gigabyte for a small file.
"""

import copy
import random
import re
import time
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pipeline import atcon

from atcon.errors import InputError
from atcon.experiments import run as running
from atcon.experiments.config import dump_config, keys, load_config, shipped
from atcon.experiments.sections import RunConfig
from atcon.experiments.shipped import experiment_of

pytestmark = pytest.mark.timeout(1200)  # 5,000 files of both kinds, also where others work
SLOW = pytest.mark.slow
WRONG = (
    None, True, -1, 0, 1, 2.5, -1e-9, 1e308, 10**30, 10**400, float("nan"), float("inf"),
    "", " ", "auto", "pool", "nan", "1e-4", "é\u202e😀", "\x00", "\x1b[31mred", "a" * 5000,
    "~nobody/x", "../..", "/", "{", "(", "{n}", "2001-01-01", "digits", "${HOME}", "os:system",
    "cuda:x", "cpu:-1", [], [[]], [None], [1, 2], ["cat", 3], {}, {"": {}}, {1: 2}, {None: None},
    {"a": {"b": {"c": []}}}, {"epochs": "x"}, {"lr": {}},
)  # fmt: skip
SNIPPETS = (
    "\t", "  ", "\n", ":", "- ", "[", "]", "{", "}", "&a ", "*a", "<<: *a\n", "? ", "| ", "> ",
    "!!python/object/apply:os.system [x]", "!!python/name:os.system", "!!binary aGk=", "!!set {a}",
    "!!int ''", "!!float x", "!!bool x", "!!timestamp x", "!!omap x", "!x ", "%YAML 9.9\n", "--- ",
    "... ", "'", '"', '"\\ud800"', '"\\x00"', "#", "@", "`", "\ufeff", "\u2028", "1:30", "=", "~",
    "0x" + "f" * 6000, "9" * 5000, "2001-99-99", ".nan", ".inf", "[" * 400, "&a [*a]", "é", "\x07",
    "a: &x [1]\nb: *x\n", "name: &n {x: *n}\n",
)  # fmt: skip
BYTES = (b"\xff", b"\xfe\xff", b"\xc3", b"\x80", b"\x00", b"\xed\xa0\x80")
SAID = re.compile(
    r"unknown key ['\"]|is missing|missing: | = .*: |[:,] line \d+|not valid YAML|"
    r"cannot read this|"
    r"is a mapping|nested too deeply|(variants|small)[.\w]*: |no experiment |no configuration |"
    r"--set .*: write it as "
)
"""What an error says besides the file: the key with its value, or the line of what is no YAML."""


def places(content: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Every key and index of nested values, as a path."""
    below: list[Any] = []
    if isinstance(content, dict):
        below = list(content)
    elif isinstance(content, list):
        below = list(range(len(content)))
    return [one for key in below for one in ((*path, key), *places(content[key], (*path, key)))]


def mutated_content(text: str, draw: random.Random) -> str:
    """Delete, rename, replace or nest some of the values."""
    content = copy.deepcopy(yaml.safe_load(text))
    for _ in range(draw.randint(1, 3)):
        *above, last = draw.choice(places(content))
        place = content
        for key in above:
            place = place[key]
        kind = draw.choice(("delete", "rename", "replace", "replace", "nest", "add"))
        if kind == "delete":
            del place[last]
        elif kind == "rename" and isinstance(place, dict):
            place[draw.choice((*keys(), *map(str, WRONG[:30])))] = place.pop(last)
        elif kind == "nest":
            place[last] = {last: place[last]} if isinstance(place, dict) else [place[last]]
        elif kind == "add" and isinstance(place, dict):
            place[draw.choice(keys()).split(".")[-1]] = copy.deepcopy(draw.choice(WRONG))
        else:
            place[last] = copy.deepcopy(draw.choice(WRONG))
    return yaml.safe_dump(content, allow_unicode=draw.random() < 0.5, sort_keys=False)


def mutated_text(text: str, draw: random.Random) -> str:
    """Insert marks, cut a part out, or repeat or exchange lines."""
    for _ in range(draw.randint(1, 3)):
        lines = text.splitlines(keepends=True) or [""]
        at, other = draw.randrange(len(lines)), draw.randrange(len(lines))
        place = draw.randint(0, len(text))
        kind = draw.choice(("insert", "insert", "value", "cut", "repeat", "exchange", "shift"))
        if kind == "insert":
            text = text[:place] + draw.choice(SNIPPETS) + text[place:]
        elif kind == "cut":
            text = text[:place] + text[place + draw.randint(1, 40) :]
        else:
            if kind == "value":
                lines[at] = lines[at].partition(":")[0] + f": {draw.choice(SNIPPETS)}\n"
            elif kind == "repeat":
                lines.insert(other, lines[at])
            elif kind == "exchange":
                lines[at], lines[other] = lines[other], lines[at]
            else:
                lines[at] = draw.choice(("\t", " ", "   ")) + lines[at]
            text = "".join(lines)
    return text


def mutated(text: str, draw: random.Random) -> bytes:
    """A file that was shipped, after what happens to files."""
    made = (mutated_content if draw.random() < 0.5 else mutated_text)(text, draw)
    content = made.encode("utf-8", "surrogatepass")
    if draw.random() < 0.05:
        place = draw.randint(0, len(content))
        content = content[:place] + draw.choice(BYTES) + content[place:]
    return content


def hold(law, count: int, *given_strategies) -> None:
    """Hold a law for so many examples, the same ones every time."""
    settings(
        max_examples=count,
        derandomize=True,
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )(given(*given_strategies)(law))()


def check_said(error: InputError) -> None:
    """Hold that an error names the key or the line, in few words and in text that prints."""
    said = str(error)
    assert SAID.search(said), said
    assert len(said) < 10_000
    assert said.replace("\n", " ").isprintable(), said


def held_over(count: int, texts: dict[str, str], path: Path, read) -> None:
    """Mutate files of these texts; `read` must accept or refuse each, and do both often enough."""
    outcomes = {"valid": 0, "refused": 0}

    def law(name, seed, small):
        path.write_bytes(mutated(texts[name], random.Random(seed)))  # noqa: S311 - drawn by hypothesis
        try:
            read(path, small)
        except InputError as refused:
            check_said(refused)
            outcomes["refused"] += 1
        else:
            outcomes["valid"] += 1

    names = st.sampled_from(sorted(texts))
    hold(law, count, names, st.integers(0, 2**32), st.booleans())
    assert sum(outcomes.values()) >= count
    assert min(outcomes.values()) > count / 25, outcomes


def read_configuration(path: Path, _: bool) -> None:
    """Load it; what was accepted is dumped, and read back the same."""
    config = load_config(str(path))
    path.write_text(dump_config(config), encoding="utf-8")
    assert load_config(str(path)) == config


def read_experiment(path: Path, small: bool) -> None:
    """Load it, and the configurations of its first cells."""
    experiment = experiment_of(str(path), small=small)
    for cell in experiment.cells[:2]:
        experiment.run_config(cell)


@pytest.mark.parametrize("count", [60, pytest.param(3000, marks=SLOW)])
def test_a_mutated_configuration_is_valid_or_refused_by_key_and_reason(count, tmp_path):
    held_over(count, shipped(), tmp_path / "own.yaml", read_configuration)


@pytest.mark.parametrize("count", [60, pytest.param(2000, marks=SLOW)])
def test_a_mutated_experiment_is_valid_or_refused_by_key_and_reason(count, tmp_path):
    folder = files("atcon.experiments") / "grids"
    texts = {
        entry.name: entry.read_text(encoding="utf-8")
        for entry in folder.iterdir()
        if entry.name.endswith(".yaml")
    }
    held_over(count, texts, tmp_path / "own.yaml", read_experiment)


@pytest.mark.parametrize("count", [30, pytest.param(300, marks=SLOW)])
def test_an_override_of_the_command_line_is_taken_or_refused_by_key_and_reason(
    count, tmp_path, monkeypatch
):
    """The run itself is replaced: what reaches it is a valid configuration."""
    taken: list[RunConfig] = []

    def stop(config, *_, **__):
        taken.append(config)
        raise InputError("reached the run")

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(running, "run", stop)
    values = [str(value) for value in WRONG if not isinstance(value, int) or abs(value) < 10**50]

    def law(key, value):
        ended = atcon("run", "digits", "--set", f"{key}={value}")
        assert ended.code == 2
        assert ended.out == ""
        if "reached the run" not in ended.err:
            check_said(InputError(ended.err.replace("\n", " ")))
            assert key.split(".")[-1] in ended.err

    words = st.sampled_from([*values, *(one for one in SNIPPETS if len(one) < 50)])
    hold(law, count, st.sampled_from(keys()), words)
    assert count / 20 < len(taken) < count
    assert all(isinstance(config, RunConfig) for config in taken)
    assert not list(tmp_path.iterdir())


LAUGHS = "\n".join(
    ["a0: &a0 [lol, lol, lol, lol, lol, lol, lol, lol, lol]"]
    + [f"a{at}: &a{at} [{', '.join([f'*a{at - 1}'] * 9)}]" for at in range(1, 12)]
)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (LAUGHS, "more than 20000 values"),
        ("data: &d {name: digits, more: *d}", "line 1: more than"),
        ("data: {name: digits}\nmodel: {name: x}\nseed: 1\nseed: 2", "line 4: the key 'seed' is"),
        ("data: {name: digits, name: voc}\nmodel: {name: x}", "line 1: the key 'name' is given tw"),
        ("name: !!python/object/apply:os.system [touch owned]", "line 1: the tag 'python/object"),
        ("name: !!python/name:os.system", "line 1: the tag"),
        ("name: !own x", "line 1: the tag '!own' is not allowed"),
        ("name: !!binary aGVsbG8=", "line 1: the tag 'binary' is not allowed"),
        ("name: 2024-01-01", "line 1: 2024-01-01 is read as a date; put it in quotes"),
        ("seed: " + "9" * 5000, "line 1: a number of 5000 digits"),
        ("seed: 0x" + "f" * 5000, "line 1: a number of 5002 digits"),
        ("seed: 99999999999999999999", "seed = 99999999999999999999: Input should be less than"),
        ("supervised: {weight_decay: .inf}", "supervised.weight_decay = inf: Input should be"),
        ("supervised: {lr: .nan}", "supervised.lr = nan"),
        ("[" * 1200, "nested too deeply"),
        ('name: "\\ud800"', "line 1: '\\ud800' is not Unicode text"),
        ('name: "a\\0b"', "name = 'a\\x00b': Input should be the name of a folder"),
        ("name: ../../elsewhere", "name = '../../elsewhere': Input should be the name of a folder"),
        ("name: /tmp/elsewhere", "name = '/tmp/elsewhere': Input should be the name of a folder"),
        ("? [a, b]\n: c", "line 1: a key is a word"),
        ("data:\n\tname: digits", "not valid YAML"),
        ("seed: !!int ''", "not valid YAML"),
        ("", "a configuration is a mapping"),
        ("- data", "a configuration is a mapping"),
        ("a\x00: 1", "not valid YAML"),
        ("seed: '\x1b[31mred'", "not valid YAML"),
        ("x" * 900 + ": 1", "unknown key 'xxxx"),
    ],
)  # fmt: skip
def test_a_hostile_text_is_refused_by_line_or_key_within_a_second_and_runs_nothing(
    text, says, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "own.yaml"
    path.write_text(text, encoding="utf-8")
    began = time.process_time()
    ended = atcon("run", path)
    assert time.process_time() - began < 5
    assert ended.code == 2
    assert says in ended.err
    check_said(InputError(ended.err))
    assert [one.name for one in tmp_path.iterdir()] == ["own.yaml"]


def test_bytes_that_are_no_text_are_refused(tmp_path):
    path = tmp_path / "own.yaml"
    for content in BYTES:
        path.write_bytes(b"name: a" + content)
        with pytest.raises(InputError, match=r"own\.yaml: (cannot read this|not valid YAML)"):
            load_config(str(path))


@pytest.mark.parametrize(
    ("lines", "says"),
    [
        ("of: OWN", "of = "),
        ("of: {a: b}", "of = {'a': 'b'}: write the name of another experiment"),
        ("paper: x\nsmall: {paper: y}", "paper = 'y'"),
        ("networks: {../../n: {}}", "Input should be the name of a folder"),
        ("set: {data.per_clas: 4}", "experiment own: --set data.per_clas=4: unknown key"),
        ("set: {supervised.lr: 7}", "experiment own: digits: supervised.lr = 7"),
        ("LONG", "cannot read this configuration (File name too long)"),
        ("sets: {}", "unknown key 'sets' = {}; did you mean 'set'?"),
    ],
)
def test_a_hostile_experiment_is_refused_by_key(lines, says, tmp_path):
    path = tmp_path / "own.yaml"
    path.write_text(
        f"name: own\ntitle: own\nconfig: {'a' * 5000 if lines == 'LONG' else 'digits'}\n"
        f"per_class: [2]\nseeds: [0]\n{lines.replace('OWN', str(path)).replace('LONG', '')}"
    )
    with pytest.raises(InputError, match=re.escape(says)):
        read_experiment(path, small=True)
