import pytest
import torch
import torchvision
from tiny import Head, network, pictures
from tiny_transformers import transformer
from torch import nn

from atcon.attention import find_layer, grad_cam, resolve_layer
from atcon.errors import InputError

STAGES = {
    "resnet18": ("layer4", "layer4.1.conv2"),
    "mobilenet_v2": ("features", "features.18.0"),
    "squeezenet1_1": ("features", "features.12.expand3x3"),
    "vgg11_bn": ("features.27", "features.25"),
    "densenet121": ("features", "features.denseblock4.denselayer16.conv2"),
    "googlenet": ("inception5b", "inception5b.branch4.1.conv"),
    "shufflenet_v2_x0_5": ("conv5", "conv5.0"),
}


def build(name):
    extra = {"aux_logits": False, "init_weights": False} if name == "googlenet" else {}
    return getattr(torchvision.models, name)(**extra)


@pytest.mark.parametrize("name", STAGES)
def test_finds_the_last_stage_and_the_last_convolution(name):
    model, images = build(name), torch.zeros(1, 3, 64, 64)
    found = find_layer(model, images), find_layer(model, images, "convolution")
    assert found == STAGES[name]


def test_finds_the_last_block_of_inception():
    model = torchvision.models.inception_v3(aux_logits=False, init_weights=False)
    assert find_layer(model, torch.zeros(1, 3, 139, 139)) == "Mixed_7c"


def test_passes_over_a_stage_of_one_position():
    assert find_layer(build("resnet18"), torch.zeros(1, 3, 32, 32)) == "layer3"
    assert find_layer(build("resnet50"), torch.zeros(1, 3, 32, 32)) == "layer3"


def test_passes_over_a_block_of_branches_that_ends_with_one_position():
    model = torchvision.models.inception_v3(aux_logits=False, init_weights=False)
    assert find_layer(model, torch.zeros(1, 3, 96, 96)) == "Mixed_6e"


def test_finds_the_last_stage_of_convnext_though_its_blocks_are_channels_last():
    images = torch.zeros(1, 3, 64, 64)
    found = [find_layer(build("convnext_tiny"), images, kind) for kind in ("stage", "convolution")]
    assert found == ["features", "features.7.2.block.0"]


@pytest.mark.parametrize("kind", ["stage", "convolution"])
@pytest.mark.parametrize(
    ("built", "layer"),
    [
        ("vit", "encoder.layers.encoder_layer_1.ln_1"),  # after it only the class token is read
        ("encoder", "encoder.layers.1"),
        ("registers", "second.norm"),
        ("swin", "features.3"),
    ],
)
def test_finds_the_last_cells_of_a_transformer_that_the_score_reads(built, layer, kind):
    model = transformer(built)
    assert find_layer(model, pictures(2, 32), kind) == layer
    assert grad_cam(model, pictures(2, 32)).any()


def test_a_new_classifier_of_zeros_does_not_change_the_layer():
    model = transformer("vit")
    torch.nn.init.zeros_(model.heads[0].weight)
    assert find_layer(model, pictures(1, 32)) == "encoder.layers.encoder_layer_1.ln_1"


SMALL = {"patch_size": 8, "depth": 2, "embed_dim": 16, "num_heads": 2, "num_classes": 4}
STEPS = {"depths": (1, 1), "embed_dim": 8, "num_heads": (1, 2), "window_size": 2, "num_classes": 4}


@pytest.mark.parametrize(
    ("name", "options", "layer"),
    [
        ("vit_tiny_patch16_224", SMALL, "blocks.1.norm1"),
        ("vit_tiny_patch16_224", {**SMALL, "global_pool": "avg"}, "blocks.1"),
        ("deit_tiny_distilled_patch16_224", SMALL, "blocks.1.norm1"),
        ("vit_small_patch14_reg4_dinov2", SMALL, "blocks.1.norm1"),
        ("swin_tiny_patch4_window7_224", STEPS, "layers.1"),
    ],
)
def test_finds_the_layer_of_timm_transformers(name, options, layer):
    timm = pytest.importorskip("timm")
    model, images = timm.create_model(name, img_size=32, **options), torch.randn(1, 3, 32, 32)
    assert find_layer(model, images) == layer
    assert grad_cam(model, images).shape == (1, 4, 4)


def test_finds_the_layer_of_hugging_face_transformers():
    hub = pytest.importorskip("transformers")
    size = {"image_size": 32, "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2}
    config = hub.ViTConfig(**size, patch_size=8, intermediate_size=32, num_labels=4)
    model, images = hub.ViTForImageClassification(config), torch.randn(1, 3, 32, 32)
    assert find_layer(model, images).endswith(".1.layernorm_before")
    assert grad_cam(model, images).shape == (1, 4, 4)
    steps = {"embed_dim": 8, "depths": [1, 1], "num_heads": [1, 2], "window_size": 2}
    config = hub.SwinConfig(**steps, image_size=32, patch_size=4, num_labels=4)
    model = hub.SwinForImageClassification(config)
    assert find_layer(model, images).endswith("encoder.layers.1")
    assert grad_cam(model, images).shape == (1, 4, 4)


def test_a_stage_as_wide_as_the_logits_is_still_a_stage():
    model = torchvision.models.resnet18(num_classes=512)
    assert find_layer(model, torch.zeros(1, 3, 64, 64)) == "layer4"
    assert find_layer(network("residual"), pictures(), "convolution") == "conv"


def test_a_convolution_that_gives_the_logits_is_the_head():
    model = nn.Sequential(
        nn.Conv2d(3, 6, 3),
        nn.ReLU(),
        nn.Conv2d(6, 4, 1),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
    ).double()
    assert find_layer(model, pictures()) == "1"


def test_a_convolution_before_a_classifier_without_a_module_is_a_layer():
    class Prototypes(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.prototypes = nn.Conv2d(3, 6, 3), nn.Parameter(torch.ones(4, 6))

        def forward(self, x):
            return self.conv(x).relu().mean(dim=(2, 3)) @ self.prototypes.T

    assert find_layer(Prototypes().double(), pictures()) == "conv"


def test_without_a_convolution_the_layer_must_be_named():
    model = nn.Sequential(nn.Flatten(), nn.Linear(3 * 12 * 12, 2)).double()
    with pytest.raises(InputError, match="name the layer"):
        find_layer(model, pictures())


def test_a_name_a_module_and_the_search_give_the_same_map():
    model, images = network("residual"), pictures()
    found = grad_cam(model, images)
    assert torch.equal(found, grad_cam(model, images, layer="relu"))
    assert torch.equal(found, grad_cam(model, images, layer=model.relu))


def test_an_unknown_layer_names_the_nearest():
    with pytest.raises(InputError, match=r"no layer 'layer5'; the nearest are .*layer4"):
        resolve_layer(build("resnet18"), "layer5", torch.zeros(1, 3, 64, 64))


@pytest.mark.parametrize("layer", ["", "zzzzzzzzzzzzz"])
def test_a_name_like_no_other_is_an_input_error_too(layer):
    with pytest.raises(InputError, match="has no layer"):
        resolve_layer(network("plain"), layer, pictures())


def test_a_module_of_another_network_is_an_input_error():
    with pytest.raises(InputError, match="not a module of"):
        resolve_layer(network("plain"), Head(3), pictures())


def test_the_model_itself_is_no_layer():
    model = network("plain")
    with pytest.raises(InputError, match="is the model itself"):
        resolve_layer(model, model, pictures())
