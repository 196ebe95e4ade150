from collections import OrderedDict
from typing import NamedTuple

import pytest
import torch
from torch import Tensor, nn

from atcon.attention import find_layer, grad_cam, trace
from atcon.attention.tokens import map_layout, unpacked
from atcon.errors import InputError


def numbered(*shape):
    return torch.arange(float(torch.Size(shape).numel())).reshape(shape)


@pytest.mark.parametrize("prefix", [0, 1, 2, 5])
@pytest.mark.parametrize(("grid", "cells"), [((32, 32), (4, 4)), ((32, 48), (4, 6))])
def test_tokens_become_the_cells_of_the_images_shape(prefix, grid, cells):
    count = cells[0] * cells[1]
    tokens = numbered(2, prefix + count, 7)
    maps = map_layout(tokens, torch.zeros(2, 3, *grid)).map_in(tokens)
    assert maps.shape == (2, 7, *cells)
    for row, column in ((0, 0), (1, 2), (3, 3)):
        expected = tokens[:, prefix + row * cells[1] + column]
        assert torch.equal(maps[:, :, row, column], expected)


def test_the_grid_of_the_patch_embedding_decides_where_there_are_several():
    tokens = torch.zeros(1, 2 * 7 + 1, 4)
    images = torch.zeros(1, 3, 32, 100)
    assert map_layout(tokens, images, grids=[(2, 7)]).cells == (2, 7)
    assert map_layout(torch.zeros(1, 9, 4), torch.zeros(1, 3, 8, 8), grids=[(2, 2)]).prefix == 5
    clip = torch.zeros(1, 3, 8, 32, 32)
    assert map_layout(torch.zeros(1, 33, 4), clip, grids=[(2, 4, 4)]).cells == (2, 4, 4)


@pytest.mark.parametrize(
    ("shape", "grid", "kind"),
    [
        ((2, 64, 7, 7), (224, 224), "channels first"),
        ((2, 7, 7, 64), (224, 224), "channels last"),
        ((2, 768, 4, 6), (32, 48), "channels first"),
        ((2, 4, 6, 768), (32, 48), "channels last"),
        ((2, 3, 5, 8), (20, 33), "channels last"),
        ((2, 8, 3, 5), (20, 33), "channels first"),
        ((2, 16, 4, 4, 4), (8, 32, 32), "channels first"),
        ((2, 4, 4, 4, 16), (8, 32, 32), "channels last"),
        ((2, 4, 2, 2, 6), (8, 32, 32), "channels last"),
        ((2, 6, 9), (40,), "channels first"),
    ],
)
def test_channels_are_first_or_last_as_the_images_shape_says(shape, grid, kind):
    assert map_layout(torch.zeros(shape), torch.zeros(2, 3, *grid)).kind == kind


def test_where_both_fit_the_layer_decides():
    output, images = torch.zeros(1, 8, 8, 8), torch.zeros(1, 3, 32, 32)
    conv, linear = nn.Conv2d(8, 8, 1), nn.Linear(8, 8)
    for layer, kind in (
        (None, "channels first"),
        (nn.ReLU(), "channels first"),
        (conv, "channels first"),
        (nn.Sequential(linear, conv), "channels first"),
        (nn.Sequential(nn.LayerNorm(8), linear), "channels last"),
    ):
        assert map_layout(output, images, layer).kind == kind


def test_layers_that_are_channels_first_by_definition_are_so_in_every_shape():
    images = torch.zeros(1, 3, 16, 32)
    uneven = nn.Conv2d(3, 8, 3, (1, 2), 1)
    for layer in (
        uneven,
        nn.Conv2d(3, 4, 3, (2, 1), 1),
        nn.ConvTranspose2d(3, 8, 2, 2),
        nn.Sequential(uneven, nn.BatchNorm2d(8), nn.ReLU(), nn.Dropout()),
        nn.Sequential(uneven, nn.ReLU(), nn.MaxPool2d((1, 2))),
    ):
        output = layer(images)
        assert map_layout(output, images, layer).map_in(output) is output


def test_the_convolutions_of_the_pass_tell_cells_from_channels():
    images = torch.zeros(1, 3, 16, 32)
    for shape, kind in (((1, 8, 16, 8), "channels first"), ((1, 16, 8, 16), "channels last")):
        assert map_layout(torch.zeros(shape), images, nn.Identity(), [(16, 8)]).kind == kind


@pytest.mark.parametrize("shape", [(2, 21, 4), (2, 8, 8, 5), (2, 5, 8, 8)])
def test_an_output_made_of_its_own_map_is_itself(shape):
    output = torch.randn(shape)
    layout = map_layout(output, torch.zeros(2, 3, 32, 32))
    again = layout.output_of(layout.map_in(output), output)
    assert torch.equal(again, output)
    assert again.data_ptr() != output.data_ptr()


@pytest.mark.parametrize(
    "output",
    [torch.zeros(2, 5), torch.zeros(2, 3, 2), torch.zeros(2, 95, 4), (), {}],
    ids=["vectors", "few tokens", "no grid", "nothing", "an empty dictionary"],
)
def test_what_is_no_map_is_an_input_error(output):
    images = torch.zeros(2, 3, 32, 48)
    with pytest.raises(InputError, match=r"layer Linear must return a map.*block of a transformer"):
        map_layout(unpacked(output)[0], images, nn.Linear(2, 2))


class Windows(nn.Module):
    """Cuts every image into four, as a layer inside attention within windows sees it."""

    def __init__(self):
        super().__init__()
        self.cut, self.head = nn.Unflatten(3, (4, 4)), nn.Linear(3, 4)
        self.inside = nn.Identity()

    def forward(self, x):
        cut = self.cut(x).movedim(3, 1).flatten(0, 1)
        return self.head(self.inside(cut).unflatten(0, (len(x), 4)).mean(dim=(1, 3, 4)))


def test_a_layer_that_gives_more_maps_than_images_is_an_input_error():
    with pytest.raises(InputError, match=r"layer Identity must return a map"):
        grad_cam(Windows(), torch.zeros(2, 3, 16, 16), layer="inside")


class Pair(NamedTuple):
    name: str
    maps: Tensor


class Hub(OrderedDict):
    """Like a Hugging Face output."""


@pytest.mark.parametrize(
    "wrap",
    [
        lambda x: x,
        lambda x: (x, None),
        lambda x: ["text", x],
        lambda x: Pair("a", x),
        lambda x: {"other": x + 1, "last_hidden_state": x},
        lambda x: Hub(hidden=x, more=x + 1),
    ],
    ids=["tensor", "tuple", "list", "named tuple", "hidden state", "first of a dictionary"],
)
def test_the_map_of_a_compound_output_is_found_and_replaced_in_place(wrap):
    output = wrap(torch.zeros(2, 4, 8, 8))
    tensor, changed = unpacked(output)
    assert tensor.shape == (2, 4, 8, 8)
    replaced = changed(tensor + 7)
    assert type(replaced) is type(output)
    assert unpacked(replaced)[0].eq(7).all()
    assert unpacked(output)[0].eq(0).all()


def test_a_layer_that_gives_a_tuple_is_explained():
    class Two(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(3, 4, 3)

        def forward(self, x):
            return self.conv(x).relu(), "unused"

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.two, self.fc = Two(), nn.Linear(4, 3)

        def forward(self, x):
            return self.fc(self.two(x)[0].mean(dim=(2, 3)))

    torch.manual_seed(0)
    model, images = Net(), torch.randn(2, 3, 8, 8)
    maps = grad_cam(model, images, 1, layer="two")
    features = model.two(images)[0]
    expected = torch.einsum("k,bkhw->bhw", model.fc.weight[1] / 36, features)
    torch.testing.assert_close(maps, expected.detach())


def test_features_of_a_trace_are_maps_that_the_score_depends_on():
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(3, 4, 4, 4), Tokens(), nn.LayerNorm(4), Pooled(), nn.Linear(4, 2)
    )
    images = torch.randn(2, 3, 16, 16)
    run = trace(model, images, model[2])
    features, gradients = run.layer(torch.tensor([0, 1]))
    assert features.shape == gradients.shape == (2, 4, 4, 4)
    expected = model[4].weight[:, :, None, None] / 16
    torch.testing.assert_close(gradients, expected.expand(2, 4, 4, 4).detach())
    assert find_layer(model, images) == "0"  # no block: its parts are all plain


class Tokens(nn.Module):
    def forward(self, x):
        return x.flatten(2).transpose(1, 2)


class Pooled(nn.Module):
    def forward(self, x):
        return x.mean(dim=1)


class Several(nn.Module):
    """Gives its tokens, and something that it made of them itself, as Hugging Face's models do."""

    def __init__(self):
        super().__init__()
        self.patches = nn.Conv2d(3, 4, 4, 4)

    def forward(self, x):
        tokens = self.patches(x).flatten(2).transpose(1, 2)
        return {"last_hidden_state": tokens, "pooler_output": tokens.square().mean(dim=1)}


class OfBoth(nn.Module):
    def __init__(self):
        super().__init__()
        self.several, self.fc = Several(), nn.Linear(4, 2)

    def forward(self, x):
        given = self.several(x)
        return self.fc(given["pooler_output"] + given["last_hidden_state"].mean(dim=1))


def test_what_a_layer_made_of_its_tokens_itself_counts_too():
    torch.manual_seed(0)
    model, images = OfBoth(), torch.randn(2, 3, 16, 16)
    run = trace(model, images, model.several)
    features, gradients = run.layer(torch.tensor([0, 1]))
    expected = model.fc.weight[:, :, None, None] * (2 * features + 1) / 16
    torch.testing.assert_close(gradients, expected.detach())
