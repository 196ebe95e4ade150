import pytest
import yaml
from pipeline import atcon

NAMES = (
    "clips",
    "digits",
    "folder",
    "lung-ultrasound",
    "svhn",
    "voc-animals",
    "voc-strategies",
    "voc2012",
)


def test_list_names_every_shipped_configuration_with_a_sentence():
    lines = atcon("list").out.splitlines()
    assert {line.split()[0] for line in lines} >= set(NAMES)
    assert all(len(line.split()) > 4 and "#" not in line for line in lines)


@pytest.mark.parametrize("name", NAMES)
def test_show_prints_the_yaml_that_copy_writes(name, tmp_path):
    shown = atcon("show", name).out
    copied = atcon("copy", name, tmp_path / "own.yaml")
    assert (copied.code, copied.out) == (0, f"{tmp_path / 'own.yaml'}\n")
    assert (tmp_path / "own.yaml").read_text() == shown
    assert yaml.safe_load(shown)["model"]["name"]


def test_copy_never_overwrites(tmp_path):
    (tmp_path / "own.yaml").write_text("mine")
    ended = atcon("copy", "digits", tmp_path / "own.yaml")
    assert ended.code == 2
    assert "exists already" in ended.err
    assert (tmp_path / "own.yaml").read_text() == "mine"


def test_copy_below_a_file_is_wrong_input(tmp_path):
    (tmp_path / "file").write_text("")
    assert atcon("copy", "digits", tmp_path / "file" / "own.yaml").code == 2


@pytest.mark.parametrize("command", ["show", "copy"])
def test_an_unknown_name_gives_the_nearest(command, tmp_path):
    arguments = ["voc-animal", tmp_path / "own.yaml"][: 1 if command == "show" else 2]
    ended = atcon(command, *arguments)
    assert ended.code == 2
    assert "no configuration 'voc-animal'" in ended.err
    assert "did you mean 'voc-animals'?" in ended.err
    assert not (tmp_path / "own.yaml").exists()
