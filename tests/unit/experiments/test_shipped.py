import pytest

from atcon.errors import InputError
from atcon.experiments.grid import of_network
from atcon.experiments.grid_tables import tables_of
from atcon.experiments.shipped import experiment_of, experiments

FULL = """\
name: mine
title: a full one
config: digits
per_class: [2, 4]
seeds: [0, 1]
rows: {supervised: before, consistency: after}
paper: {values: {f1: "table2_pascal.f1.{row}.{n}"}, rows: {supervised: resnet50}}
"""


def write(folder, text):
    path = folder / "mine.yaml"
    path.write_text(text)
    return str(path)


@pytest.mark.parametrize("small", [False, True])
def test_the_first_and_last_run_of_every_form_can_be_configured(small):
    for name, one in experiments(small=small).items():
        for cell in one.cells[:1] + one.cells[-1:]:
            assert one.run_config(cell).data.per_class == cell.per_class, name


def test_the_full_forms_are_those_of_the_paper():
    table = experiment_of("table2")
    assert list(table.networks) == ["resnet50", "inception_v3", "mobilenet_v2"]
    assert table.per_class == (2, 4, 8, 12, 16, 135)
    config = table.run_config(next(c for c in table.cells if c.network == "inception_v3"))
    assert (config.model.name, config.data.image_size) == ("inception_v3", 299)
    assert experiment_of("table1").per_class == (16, 32)


def test_one_grid_serves_several_tables():
    names = {name: experiment_of(name, small=True).name for name in ("table2", "table3", "laso")}
    assert set(names.values()) == {"strategies"}
    assert experiment_of("table3").cells == experiment_of("table2").cells
    assert experiment_of("table3").name == "table2"


def test_a_small_form_changes_what_it_names_and_has_cells_of_its_own(tmp_path):
    source = write(tmp_path, FULL + "small: {per_class: [2], paper: {network: resnet50}}\n")
    full, small = experiment_of(source), experiment_of(source, small=True)
    assert (full.name, small.name) == ("mine", "mine-small")
    assert (full.per_class, small.per_class) == ((2, 4), (2,))
    assert small.seeds == full.seeds
    assert small.paper.network == "resnet50"
    assert small.paper.rows == full.paper.rows


@pytest.mark.parametrize(("small", "words"), [(False, "svhn"), (True, "svhn --small")])
def test_the_next_step_is_named_by_the_words_that_the_command_line_takes(small, words):
    drawn = tables_of(experiment_of("svhn", small=small), {})
    assert drawn.startswith(f"No cell is finished yet: atcon experiment run {words}\n")


def test_an_experiment_without_a_small_form_has_one_form(tmp_path):
    source = write(tmp_path, FULL)
    assert experiment_of(source) == experiment_of(source, small=True)


def test_cells_name_their_network_where_there_are_several(tmp_path):
    source = write(tmp_path, FULL + "networks: {a: {seed: 1}, b: {data.image_size: 48}}\n")
    one = experiment_of(source)
    assert [cell.name for cell in one.cells[:2]] == ["a-n2-seed-0", "a-n2-seed-1"]
    assert len(one.cells) == 8
    only = of_network(one, "b")
    assert {cell.network for cell in only.cells} == {"b"}
    assert only.run_config(only.cells[0]).data.image_size == 48
    with pytest.raises(InputError, match="the networks are a, b"):
        of_network(one, "")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("name: mine\ntitle: t\n", "missing: config, per_class, seeds"),
        (FULL + "small: yes\n", "small: write what it changes"),
        (FULL + "small: {of: tabel2}\n", "table2"),
        ("- a list\n", "an experiment is a mapping"),
        (FULL + "kind: new\n", "kind"),
        (FULL + "metrics: [mapp]\n", r"metrics.0 = 'mapp': .* did you mean 'map'"),
        (FULL + 'metrics: ["\\e[31mred"]\n', r"metrics.0 = '\\x1b\[31mred': "),
    ],
)
def test_a_wrong_file_is_refused_with_what_is_wrong(tmp_path, text, said):
    with pytest.raises(InputError, match=said):
        experiment_of(write(tmp_path, text), small=True)
