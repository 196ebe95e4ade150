from pathlib import Path

import pytest
from pipeline import TINY, tiny

from atcon.errors import InputError
from atcon.experiments.config import (
    check_config,
    data_path,
    dump_config,
    keys,
    load_config,
    shipped,
)
from atcon.experiments.sections import RunConfig

STABLE = {
    "data": ("name", "root", "classes", "per_class", "validation_images"),
    "model": ("name", "weights", "layer"),
    "supervised": ("epochs", "lr", "batch_size"),
    "consistency": ("preset", "mask", "epochs", "lr", "batch_size"),
}


@pytest.mark.parametrize("name", list(shipped()))
def test_every_shipped_configuration_loads_and_starts_with_what_it_is(name):
    assert shipped()[name].startswith("# ")
    assert load_config(name).name == name


@pytest.mark.parametrize("name", list(shipped()))
def test_a_dumped_configuration_is_read_back_unchanged(name, tmp_path):
    config = load_config(name, ["seed=7", "supervised.lr=3.3e-5", "model.layer=null"])
    (tmp_path / "config.yaml").write_text(dump_config(config))
    again = load_config(str(tmp_path / "config.yaml"))
    assert again == config
    assert dump_config(again) == dump_config(config)


def test_a_dump_resolves_every_key():
    dumped = check_config(RunConfig(data={"name": "digits"}, model={"name": "x"}).model_dump(), "")
    for key in keys():
        assert key.rpartition(".")[2] in dump_config(dumped)


def test_the_keys_that_stay_stable_exist():
    known = keys()
    assert "seed" in known
    for section, names in STABLE.items():
        assert {f"{section}.{name}" for name in names} <= set(known)


@pytest.mark.parametrize("text", ["1e-4", "1E-4", "0.0001", "1.0e-4"])
def test_a_number_is_a_number_however_it_is_written(text):
    rate = tiny(f"supervised.lr={text}").supervised.lr
    assert isinstance(rate, float)
    assert rate == 1e-4


def test_an_override_wins_over_the_file_and_the_last_over_the_first(tmp_path):
    file = tmp_path / "own.yaml"
    file.write_text("data: {name: digits, per_class: 3}\nmodel: {name: x}\nseed: 5\n")
    assert load_config(str(file)).data.per_class == 3
    config = load_config(str(file), ["data.per_class=4", "data.per_class=6"])
    assert (config.data.per_class, config.seed, config.name) == (6, 5, "own")


def test_an_override_can_open_a_section_that_the_file_has_not(tmp_path):
    (tmp_path / "own.yaml").write_text("data: {name: digits}\nmodel: {name: x}\n")
    assert (
        load_config(str(tmp_path / "own.yaml"), ["controls.uniform=no"]).controls.uniform is False
    )


def test_values_keep_their_equals_signs_and_lists_are_lists():
    config = load_config("voc-animals", ["data.root=a=b", "data.classes=[cat, dog]"])
    assert config.data.root == "a=b"
    assert config.data.classes == ("cat", "dog")


def test_every_wrong_entry_is_named_at_once():
    content = {"data": {"name": "vok", "per_class": 0}, "model": {"name": "x"}, "seeds": 1}
    with pytest.raises(InputError) as caught:
        check_config(content, "own.yaml")
    for key in ("data.name", "data.per_class", "'seeds'", "did you mean 'seed'?"):
        assert key in str(caught.value)


def test_a_path_as_given_comes_before_one_below_the_variable(tmp_path, monkeypatch):
    (tmp_path / "store" / "images").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ATCON_DATA", str(tmp_path / "store"))
    assert data_path("images", "data.root") == tmp_path / "store" / "images"
    (tmp_path / "images").mkdir()
    assert data_path("images", "data.root") == Path("images")
    absolute = str(tmp_path / "elsewhere" / "images")
    with pytest.raises(InputError) as caught:
        data_path(absolute, "data.root")
    assert str(caught.value).count("images") == 1


def test_the_tiny_settings_are_overrides_of_known_keys():
    assert {override.partition("=")[0] for override in TINY} <= set(keys())
