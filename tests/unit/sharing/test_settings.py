"""A configuration keeps what was chosen from lists and loses what was written by hand."""

import pytest
import yaml
from pydantic import BaseModel

from atcon.errors import InputError
from atcon.experiments.config import dump_config, keys, load_config, shipped
from atcon.experiments.sections import RunConfig
from atcon.sharing import Pseudonyms
from atcon.sharing.settings import KEPT, hidden_config, hidden_environment, takes_text

NAMES = Pseudonyms(bytes(32))


def flat(content: dict, prefix: str = "") -> dict[str, object]:
    found = {}
    for key, value in content.items():
        inner = flat(value, f"{prefix}{key}.") if isinstance(value, dict) else None
        found |= inner or {f"{prefix}{key}": value}
    return found


@pytest.mark.parametrize("key", sorted({*keys()} - {*KEPT}))
def test_a_key_that_is_not_hidden_refuses_free_text(key):
    """A new key of free text is hidden by itself; to keep it, it must be listed in KEPT."""
    section, last = section_of(key)
    content = {last: "/home/karl"}
    for name in reversed(key.split(".")[:-1]):
        content = {name: content}
    if flat(yaml.safe_load(hidden_config(yaml.safe_dump(content), NAMES))) == {key: "/home/karl"}:
        for text in ("/home/karl", "[/home/karl]", "{karl: karl}"):
            with pytest.raises(InputError, match=key.partition(".")[0]):
                load_config("folder", [f"{key}={text}"])
    else:
        assert takes_text(section.model_fields[last].annotation)


def section_of(key: str) -> tuple[type[BaseModel], str]:
    section: type[BaseModel] = RunConfig
    *sections, last = key.split(".")
    for name in sections:
        section = section.model_fields[name].annotation
    return section, last


def test_places_are_hidden_and_what_the_results_need_is_kept():
    assert {*keys()} >= KEPT
    for key in ("data.root", "data.csv", "data.boxes", "model.weights"):
        section, name = key.split(".")
        text = hidden_config(yaml.safe_dump({section: {name: "karl"}}), NAMES)
        assert yaml.safe_load(text) == {section: {name: NAMES.text("karl")}}
    kept = {"name": "karl", "model": {"name": "karl", "weights": "imagenet"}}
    assert yaml.safe_load(hidden_config(yaml.safe_dump(kept), NAMES)) == kept


@pytest.mark.parametrize("name", shipped())
def test_a_shipped_configuration_keeps_all_but_its_places_and_loads_again(name, tmp_path):
    config = load_config(name, ["consistency.stopping=drift_budget"])
    path = tmp_path / "config.yaml"
    path.write_text(hidden_config(dump_config(config), NAMES), encoding="utf-8")
    before, after = (flat(one.model_dump()) for one in (config, load_config(str(path))))
    changed = {key for key in before if before[key] != after[key]}
    assert changed <= {"data.root", "data.csv", "data.boxes", "model.weights"}


def test_paths_become_pseudonyms_and_equal_ones_stay_equal():
    overrides = ["data.root=/home/karl/x", "consistency.unlabelled_root=/home/karl/x"]
    config = load_config("folder", [*overrides, "model.weights=karl.safetensors"])
    text = hidden_config(dump_config(config), NAMES)
    after = flat(yaml.safe_load(text))
    assert "karl" not in text
    assert after["data.root"] == after["consistency.unlabelled_root"] == NAMES.text("/home/karl/x")
    assert after["model.weights"] == NAMES.text("karl.safetensors")


def test_variants_and_keys_that_nobody_knows_lose_their_text_only():
    content = {
        "variants": {"a": {"mask": "uniform", "lr": 0.1, "unlabelled_root": "karl"}},
        "later": {"karl": ["karl", 3]},
        "data": {"by": "karl", "per_class": 2},
    }
    after = yaml.safe_load(hidden_config(yaml.safe_dump(content), NAMES))
    hidden = NAMES.text("karl")
    assert after == {
        "variants": {"a": {"mask": "uniform", "lr": 0.1, "unlabelled_root": hidden}},
        "later": {hidden: [hidden, 3]},
        "data": {"by": hidden, "per_class": 2},
    }


def test_of_the_machine_only_versions_and_numbers_stay():
    machine = {
        "format": 1, "python": "3.11", "platform": "Linux-6.1-karl-x86_64", "host": "karl",
        "threads": 2, "packages": {"torch": "2.11"},
    }  # fmt: skip
    kept = {"python": "3.11", "threads": 2, "packages": {"torch": "2.11"}, "platform": "Linux"}
    assert hidden_environment(machine) == kept
