import pytest
import torch
import torchvision
from tiny import network
from tiny_transformers import transformer
from torch import nn

from atcon.errors import InputError
from atcon.training.groups import blocks_of, depth_of_parameters, parameter_groups

REAL = ("mobilenet_v2", "resnet18", "squeezenet1_1", "vgg11_bn")
CHOICES = (
    {},
    {"weight_decay": 0.01, "layer_decay": 0.7, "head_factor": 10.0},
)


def build(name):
    if name == "vit":
        return transformer("vit")
    if name == "tiny":
        return network("plain")
    with torch.device("meta"):
        return torchvision.models.get_model(name, num_classes=5)


def names_of(model):
    return {id(parameter): name for name, parameter in model.named_parameters()}


def settings(model, groups):
    """Give rate and decay of every parameter by its name."""
    names = names_of(model)
    return {
        names[id(parameter)]: (group["lr"], group["weight_decay"])
        for group in groups
        for parameter in group["params"]
    }


@pytest.mark.parametrize("choice", CHOICES)
@pytest.mark.parametrize("name", [*REAL, "vit", "tiny"])
def test_every_parameter_that_trains_is_in_exactly_one_group(name, choice):
    model = build(name)
    parameters = list(model.parameters())
    for parameter in parameters[1::4]:
        parameter.requires_grad_(requires_grad=False)
    groups = parameter_groups(model, lr=0.1, **choice)
    found = [id(parameter) for group in groups for parameter in group["params"]]
    expected = [id(parameter) for parameter in parameters if parameter.requires_grad]
    assert sorted(found) == sorted(expected)
    assert all(group["params"] for group in groups)


@pytest.mark.parametrize("name", [*REAL, "vit", "tiny"])
def test_the_defaults_are_one_group_in_the_models_order(name):
    model = build(name)
    (group,) = parameter_groups(model, lr=0.1)
    assert [id(p) for p in group.pop("params")] == [id(p) for p in model.parameters()]
    assert group == {"lr": 0.1, "weight_decay": 0}


def test_the_defaults_train_as_plain_adam_does():
    found = []
    for grouped in (False, True):
        model = network("plain")
        groups = parameter_groups(model, lr=0.01) if grouped else model.parameters()
        optimizer = torch.optim.Adam(groups, 0.01)
        for _ in range(3):
            optimizer.zero_grad()
            model(torch.ones(1, 3, 12, 12).double()).sum().backward()
            optimizer.step()
        found.append(model.state_dict())
    assert all(torch.equal(found[0][name], found[1][name]) for name in found[0])


@pytest.mark.parametrize("name", REAL)
def test_only_weights_of_convolutions_and_linear_layers_decay(name):
    model = build(name)
    found = settings(model, parameter_groups(model, lr=0.1, weight_decay=0.02))
    decayed = {key for key, (_, decay) in found.items() if decay}
    expected = {
        f"{key}.weight" for key, m in model.named_modules() if isinstance(m, nn.Conv2d | nn.Linear)
    }
    assert decayed == expected
    assert {found[key] for key in expected} == {(0.1, 0.02)}


def test_a_transformers_token_and_positions_decay_and_its_biases_do_not():
    model = build("vit")
    found = settings(model, parameter_groups(model, lr=0.1, weight_decay=0.02))
    spared = {key for key, (_, decay) in found.items() if not decay}
    assert spared == {key for key in found if "bias" in key or ".ln" in key}
    assert {"class_token", "encoder.pos_embedding"} <= set(found) - spared


RESNET = {"conv1": 0, "bn1": 0, "layer1": 1, "layer2": 2, "layer3": 3, "layer4": 4, "fc": 5}


def test_a_resnets_blocks_are_its_stem_its_stages_and_its_head():
    model = build("resnet18")
    depths = depth_of_parameters(model)
    assert depths == {name: RESNET[name.split(".")[0]] for name, _ in model.named_parameters()}
    assert [block.name for block in blocks_of(model)] == [*RESNET]


def test_a_mobilenets_blocks_are_those_of_its_features_and_its_head():
    model = build("mobilenet_v2")
    for name, depth in depth_of_parameters(model).items():
        part, number, *_ = name.split(".")
        assert depth == (int(number) if part == "features" else 19)


def test_a_squeezenets_blocks_are_counted_without_what_holds_no_parameters():
    model = build("squeezenet1_1")
    holding = [0, 3, 4, 6, 7, 9, 10, 11, 12]
    for name, depth in depth_of_parameters(model).items():
        part, number, *_ = name.split(".")
        assert depth == (holding.index(int(number)) if part == "features" else 9)


def test_a_normalisation_is_as_deep_as_the_layer_before_it():
    depths = depth_of_parameters(build("vgg11_bn"))
    assert depths["features.0.weight"] == depths["features.1.weight"] == 0
    assert depths["features.4.weight"] == depths["features.5.bias"] == 1
    assert depths["classifier.0.weight"] == 8
    assert depths["classifier.6.weight"] == max(depths.values()) == 10


def test_a_transformers_blocks_are_its_encoder_layers():
    depths = depth_of_parameters(build("vit"))
    stem = ("class_token", "conv_proj.weight", "encoder.pos_embedding")
    assert {depths[name] for name in stem} == {0}
    assert depths["encoder.layers.encoder_layer_0.mlp.0.weight"] == 1
    assert depths["encoder.layers.encoder_layer_1.ln_1.weight"] == depths["encoder.ln.bias"] == 2
    assert depths["heads.head.weight"] == 3


@pytest.mark.parametrize("wrap", [nn.Sequential, lambda m: nn.ModuleDict({"module": m})])
def test_a_wrapper_changes_no_depth(wrap):
    model = build("resnet18")
    assert [*depth_of_parameters(wrap(model)).values()] == [*depth_of_parameters(model).values()]


def test_a_layer_before_a_network_is_its_nearest_to_the_input():
    inner = build("resnet18")
    model = nn.Sequential(nn.Conv2d(1, 3, 1, device="meta"), inner)
    shifted = {f"1.{name}": depth + 1 for name, depth in depth_of_parameters(inner).items()}
    assert depth_of_parameters(model) == {"0.weight": 0, "0.bias": 0, **shifted}


def test_a_block_learns_by_its_distance_to_the_head_and_the_head_by_its_factor():
    model = build("resnet18")
    found = settings(model, parameter_groups(model, lr=0.1, layer_decay=0.5, head_factor=8))
    for name, (rate, _) in found.items():
        depth = RESNET[name.split(".")[0]]
        assert rate == pytest.approx(0.1 * (8 if depth == 5 else 0.5 ** (5 - depth)))


def test_a_named_head_is_deeper_than_all_the_rest():
    model = build("resnet18")
    groups = parameter_groups(model, lr=0.1, layer_decay=0.5, head="layer1.1", head_factor=3)
    for name, (rate, _) in settings(model, groups).items():
        if name.startswith("layer1.1."):
            assert rate == pytest.approx(0.3)
        else:
            assert rate == pytest.approx(0.1 * 0.5 ** (6 - RESNET[name.split(".")[0]]))


def test_a_head_may_be_all_there_is():
    model = nn.Linear(2, 2)
    (group,) = parameter_groups(model, lr=0.1, layer_decay=0.5, head_factor=2)
    assert group["lr"] == 0.2
    model = nn.Sequential(nn.Linear(2, 2))
    assert parameter_groups(model, lr=0.1, head="0", head_factor=3)[0]["lr"] == pytest.approx(0.3)


def test_a_shared_weight_belongs_to_the_first_block_that_holds_it():
    model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2), nn.Linear(2, 2))
    model[1].weight = model[0].weight
    assert depth_of_parameters(model) == {
        "0.weight": 0, "0.bias": 0, "1.bias": 1, "2.weight": 2, "2.bias": 2,
    }  # fmt: skip


def test_an_optimiser_takes_the_groups():
    model = network("plain")
    groups = parameter_groups(model, lr=0.1, layer_decay=0.5, weight_decay=0.02)
    optimizer = torch.optim.AdamW(groups, lr=7.0, weight_decay=7.0)
    rates = {(group["lr"], group["weight_decay"]) for group in optimizer.param_groups}
    assert rates == {(lr, decay) for lr in (0.025, 0.05, 0.1) for decay in (0, 0.02)}


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"lr": 0}, "lr must be above 0, but it is 0"),
        ({"weight_decay": -1}, "weight_decay must be 0 or larger, but it is -1"),
        ({"layer_decay": 0}, "layer_decay must be above 0"),
        ({"head_factor": 0}, "head_factor must be above 0"),
        ({"head": "clasifier"}, r"no part with parameters 'clasifier': did you mean 'classifier'"),
        ({"head": "features.2.conv.2.5"}, "no part with parameters"),
    ],
)
def test_wrong_choices_are_refused(wrong, message):
    with pytest.raises(InputError, match=message):
        parameter_groups(build("mobilenet_v2"), **{"lr": 0.1, **wrong})


def test_a_model_in_which_nothing_trains_is_refused():
    model = network("plain").requires_grad_(requires_grad=False)
    with pytest.raises(InputError, match="no parameter of Sequential requires a gradient"):
        parameter_groups(model, lr=0.1)
    with pytest.raises(InputError, match="ReLU has no part with parameters to be the head"):
        depth_of_parameters(nn.ReLU(), "0")
