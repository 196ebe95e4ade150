"""Wrong input: exit code 2, a message that says what and where, and nothing written or changed."""

import shutil
from pathlib import Path

import pytest
import torch
from pipeline import atcon, content_of, folder_config, make_folder, sets, truncate

from atcon.models import build, save_weights
from atcon.records import write_text


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Stand in an empty folder, without ATCON_DATA."""
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    monkeypatch.delenv("ATCON_DATA", raising=False)


def assert_refused(*arguments: object, says: tuple[str, ...]) -> str:
    """Call, and hold that it is refused in the words expected, and that nothing was written."""
    before = content_of(Path.cwd())
    ended = atcon(*arguments)
    assert ended.code == 2, ended
    assert ended.out == ""
    assert ended.err.startswith("atcon: ") or "\natcon: " in ended.err
    assert "Traceback" not in ended.err
    for words in says:
        assert words in ended.err
    assert content_of(Path.cwd()) == before
    return ended.err


@pytest.mark.parametrize(
    ("override", "says"),
    [
        ("data.per_clas=4", ("'data.per_clas'", "did you mean 'data.per_class'?")),
        ("per_class=4", ("'per_class'", "did you mean 'data.per_class'?")),
        ("superviced.lr=1", ("'superviced.lr'", "did you mean 'supervised.lr'?")),
        ("data=4", ("unknown key 'data'",)),
        ("data.per_class", ("--set data.per_class", "key=value")),
        ("supervised.lr=fast", ("supervised.lr = 'fast'", "number")),
        ("supervised.lr=0", ("supervised.lr = 0", "greater than 0")),
        ("supervised.lr=nan", ("supervised.lr = nan",)),
        ("data.per_class=2.5", ("data.per_class = 2.5", "integer")),
        ("data.per_class=0", ("data.per_class = 0", "greater than 0")),
        ("data.name=vok", ("data.name = 'vok'", "did you mean 'voc'?")),
        ("data.name=vox", ("data.name = 'vox'", "did you mean 'voc'?")),
        ("consistency.preset=papr", ("consistency.preset = 'papr'", "did you mean 'paper'?")),
        ("consistency.mask=unifrm", ("consistency.mask = 'unifrm'", "did you mean 'uniform'?")),
        (
            "supervised.batch_norm=of",
            ("supervised.batch_norm = 'of'", "'frozen', 'batch' or 'fixed'"),
        ),
        ("precision=16", ("precision = 16", "did you mean '16-mixed'?")),
        ("seed=-1", ("seed = -1", "greater than or equal to 0")),
        ("data.classes=cat", ("data.classes = 'cat'", "write a list as [cat, dog]")),
        ("data.classes=[cat]", ("data.classes = ('cat',)", "no effect with data.name=digits")),
        ("data.extra=true", ("data.extra = True", "no effect with data.name=digits")),
        ("data.name=svhm", ("data.name = 'svhm'", "did you mean 'svhn'?")),
        ("model.layer=stagess", ("no layer 'stagess'", "stages")),
        ("model.name=digits_resnets", ("model.name", "'digits_resnets'")),
        ("data.per_class=5000", ("data.per_class", "largest data.per_class possible")),
        ("data.validation_images=5000", ("data.validation_images: 5000", "ask for fewer")),
        ("data.test_images=5000", ("data.test_images: 5000", "400 test images")),
        ("device=gpu9", ("device = 'gpu9'", "--device auto")),
    ],
)
def test_a_wrong_override_names_key_value_and_what_is_valid(override, says):
    assert_refused("run", "digits", "--out", "run", *sets(override), says=says)


def test_an_unknown_configuration_gives_the_nearest():
    assert_refused("run", "digts", says=("'digts'", "did you mean 'digits'?"))


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("data: [1, 2", "not valid YAML"),
        ("- 1\n- 2\n", "a mapping of keys"),
        ("model: {name: resnet18}\n", "data is missing"),
        ("data: {name: digits, per_clas: 3}\nmodel: {name: x}\n", "did you mean 'data.per_class'?"),
        ("data: 3\nmodel: {name: x}\n", "data = 3"),
        ("\xff", "cannot read this configuration"),
    ],
)
def test_a_wrong_yaml_file_is_named_with_what_is_wrong(text, says):
    Path("own.yaml").write_bytes(text.encode("latin-1"))
    assert_refused("run", "own.yaml", says=("own.yaml", says))


def test_an_override_cannot_go_below_a_value_of_the_file():
    Path("own.yaml").write_text("data: 3\n")
    assert_refused(
        "run", "own.yaml", "--set", "data.name=voc", says=("'data' is not a section here",)
    )


def test_a_missing_root_names_both_places_and_the_variable(tmp_path, monkeypatch):
    arguments = ("run", "voc-animals", "--out", "run", "--set", "data.root=nowhere")
    assert_refused(
        *arguments, says=(str(Path.cwd() / "nowhere"), "set ATCON_DATA", "--set data.root=")
    )
    monkeypatch.setenv("ATCON_DATA", str(tmp_path / "store"))
    both = (str(Path.cwd() / "nowhere"), str(tmp_path / "store" / "nowhere"))
    assert_refused(*arguments, says=both)


def test_weights_of_another_network_are_listed_and_recognised(own_images):
    network = build("digits_resnet", classes=10)
    save_weights(network.module, Path("digits.safetensors"))
    config = folder_config(Path("own.yaml"), own_images)
    assert_refused(
        "run", config, "--set", "model.name=resnet18", "--set", "model.weights=digits.safetensors",
        says=("model.weights: digits.safetensors, for resnet18", "missing (", "unexpected ("),
    )  # fmt: skip
    assert_refused(
        "run", config, "--set", "model.weights=none.pt", says=("model.weights not found", "none.pt")
    )
    Path("broken.safetensors").write_bytes(b"12345678{}")
    assert_refused("run", config, "--set", "model.weights=broken.safetensors", says=("damaged",))
    torch.save({"weights": object}, "code.pt")
    assert_refused("run", config, "--set", "model.weights=code.pt", says=("weights-only",))


def test_an_empty_class_is_named():
    root = make_folder(Path("images"))
    (root / "yellow").mkdir()
    config = folder_config(Path("own.yaml"), root)
    assert_refused("run", config, says=("no image of class 'yellow'", "leave the class out"))


def test_fewer_images_than_asked_for_says_how_many_are_possible(own_images):
    config = folder_config(Path("own.yaml"), own_images)
    assert_refused(
        "run", config, "--set", "data.per_class=6",
        says=("data.per_class", "but 6 are needed", "the largest data.per_class possible is"),
    )  # fmt: skip


def test_a_label_outside_the_class_list_is_named_with_its_line(own_images):
    rows = [
        f"{path.relative_to(own_images)},{path.parent.name}" for path in own_images.rglob("*.jpg")
    ]
    write_text(Path("labels.csv"), "\n".join(["file,label", *rows]))
    config = folder_config(
        Path("own.yaml"), own_images, "csv: labels.csv", "classes: [blue, green]"
    )
    assert_refused("run", config, says=("labels.csv, line ", "'red'"))


def test_a_truncated_image_ends_the_run_where_the_policy_says_error():
    root = make_folder(Path("images"))
    for path in (root / "red").iterdir():
        truncate(path)
    config = folder_config(Path("own.yaml"), root, "on_bad_image: error")
    assert_refused("run", config, "--out", "run", says=("red/0", "truncated"))
    assert not Path("run").exists()


def test_a_run_never_writes_where_something_else_lies(finished_run):
    shutil.copytree(finished_run, "finished")
    assert_refused(
        "run", "digits", "--out", "finished", *sets(), says=("finished holds a finished run",)
    )
    assert_refused(
        "run", "digits", "--out", "finished", "--resume", *sets(), says=("finished run",)
    )
    shutil.copytree(finished_run, "unfinished")
    Path("unfinished/summary.json").unlink()
    assert_refused(
        "run", "digits", "--out", "unfinished", *sets(), says=("unfinished run", "--resume")
    )
    assert_refused(
        "run", "digits", "--out", "unfinished", "--resume", *sets("supervised.epochs=3"),
        says=("config.yaml differs", "same configuration"),
    )  # fmt: skip
    write_text(Path("foreign/thesis.txt"), "three years of work")
    assert_refused(
        "run", "digits", "--out", "foreign", *sets(), says=("foreign exists and is not",)
    )
    assert_refused(
        "run", "digits", "--out", "foreign/thesis.txt", *sets(), says=("is not an atcon run",)
    )
    assert_refused(
        "run", "digits", "--out", "foreign/thesis.txt/run", *sets(), says=("a file, not a",)
    )


def test_resume_needs_the_folder_to_continue():
    assert_refused("run", "digits", "--resume", says=("--resume", "--out"))


@pytest.mark.parametrize("command", ["report", "evaluate"])
def test_a_folder_that_is_no_run_is_named(command):
    Path("empty").mkdir()
    assert_refused(command, "nowhere", says=("nowhere",))
    assert_refused(command, "empty", says=("empty/summary.json", "is this an atcon run folder?"))


def test_a_finished_run_takes_no_value_that_would_change_what_was_trained(finished_run):
    assert_refused(
        "evaluate", finished_run, "--set", "model.name=resnet18", says=("model.name=resnet18",)
    )
    assert_refused("evaluate", finished_run, "--set", "data.per_class=1", says=("data.root",))
