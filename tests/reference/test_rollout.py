"""Roll-out against independent ones: by hand from the weights, by hooks, and from Hugging Face."""

import copy

import pytest
import torch
from tiny import CLASSES, pictures
from tiny_transformers import shaken, transformer
from torch import nn
from torch.nn.functional import layer_norm, linear

from atcon.attention import ATTENTION


def abnar(attentions, row=0):
    """Abnar & Zuidema's own words: add I, normalise, multiply; row of the class token."""
    rollout = torch.eye(attentions[0].shape[-1]).to(attentions[0])
    for weights in attentions:
        joint = 0.5 * weights.mean(dim=1) + 0.5 * torch.eye(weights.shape[-1]).to(weights)
        rollout = (joint / joint.sum(dim=-1, keepdim=True)) @ rollout
    return rollout[:, row]


def chefer(attentions, gradients, row=0):
    """Chefer et al.: R = R + E_h((dA * A)+) R, beginning with I."""
    relevance = torch.eye(attentions[0].shape[-1]).to(attentions[0])
    for weights, gradient in zip(attentions, gradients, strict=True):
        relevance = relevance + (weights * gradient).clamp(min=0).mean(dim=1) @ relevance
    return relevance[:, row]


def expected_of(attentions, score, prefix, cells):
    gradients = torch.autograd.grad(score, attentions)
    for rows in (abnar(attentions), chefer(attentions, gradients)):
        yield rows[:, prefix:].unflatten(1, cells).detach()


def assert_equal_to(expected, model, images, classes, rtol=1e-10):
    names = ("attention_rollout", "gradient_rollout")
    for name, maps in zip(names, expected, strict=True):
        found = ATTENTION[name](model, images, classes)
        assert maps.std() > 1e-6
        torch.testing.assert_close(found, maps, rtol=rtol, atol=rtol * float(maps.abs().max()))


def attend_by_hand(block, x, heads):
    """One torchvision encoder block, written out; gives its output and its attention weights."""
    normal = layer_norm(x, x.shape[-1:], block.ln_1.weight, block.ln_1.bias, block.ln_1.eps)
    own = block.self_attention
    q, k, v = (
        part.unflatten(2, (heads, -1)).transpose(1, 2)
        for part in linear(normal, own.in_proj_weight, own.in_proj_bias).chunk(3, dim=2)
    )
    weights = torch.softmax(q @ k.transpose(2, 3) * q.shape[-1] ** -0.5, dim=3)
    x = x + own.out_proj((weights @ v).transpose(1, 2).flatten(2))
    return x + block.mlp(block.ln_2(x)), weights


def test_equals_a_torchvision_vit_written_out():
    model, images, classes = transformer("vit"), pictures(2, 32), torch.tensor([3, 1])
    x = model.conv_proj(images).flatten(2).transpose(1, 2)
    x = torch.cat([model.class_token.expand(2, -1, -1), x], dim=1) + model.encoder.pos_embedding
    attentions = []
    for block in model.encoder.layers:
        x, weights = attend_by_hand(block, x, heads=2)
        attentions.append(weights)
    logits = model.heads(model.encoder.ln(x)[:, 0])
    torch.testing.assert_close(logits, model(images))
    score = logits.gather(1, classes[:, None]).sum()
    assert_equal_to(expected_of(attentions, score, 1, (4, 4)), model, images, classes)


def test_every_token_counts_where_all_are_pooled():
    model, images = transformer("encoder"), pictures(2, 32)
    attentions = []

    def with_weights(_module, args, kwargs):
        return args, {**kwargs, "need_weights": True, "average_attn_weights": False}

    for layer in model.encoder.layers:
        layer.self_attn.register_forward_pre_hook(with_weights, with_kwargs=True)
        layer.self_attn.register_forward_hook(lambda _m, _i, out: attentions.append(out[1]))
    model(images)
    rows = torch.stack([abnar(attentions, row) for row in range(16)]).mean(dim=0)
    found = ATTENTION["attention_rollout"](transformer("encoder"), images)
    torch.testing.assert_close(found, rows.unflatten(1, (4, 4)).detach(), rtol=1e-10, atol=1e-13)
    torch.testing.assert_close(found.sum(dim=(1, 2)), torch.ones(2, dtype=found.dtype))


def test_registers_and_one_head_written_out():
    model, images = transformer("registers"), pictures(2, 32)
    attentions, classes = [], torch.tensor([2, 0])
    x = model.patches(images).flatten(2).transpose(1, 2)
    x = torch.cat([model.extra.expand(2, -1, -1), x], dim=1) + model.position
    for block in (model.first, model.second):
        q, k, v = block.qkv(block.norm(x)).split(6, dim=2)
        attentions.append(
            torch.softmax(torch.einsum("bqd,bkd->bqk", q, k) / 6**0.5, dim=2)[:, None]
        )
        x = x + attentions[-1][:, 0] @ v
    score = model.fc(x[:, 0]).gather(1, classes[:, None]).sum()
    assert_equal_to(expected_of(attentions, score, 3, (4, 4)), model, images, classes)


@pytest.mark.parametrize("size", [(32, 32), (32, 48)], ids=["square", "wide"])
def test_equals_timm_without_its_fused_attention(size):
    timm = pytest.importorskip("timm")
    small = {"patch_size": 8, "depth": 2, "embed_dim": 16, "num_heads": 2, "num_classes": CLASSES}
    torch.manual_seed(0)
    model = shaken(timm.create_model("vit_tiny_patch16_224", img_size=size, **small)).double()
    images = torch.randn(2, 3, *size, dtype=torch.float64)
    fused = [ATTENTION["attention_rollout"](model, images, 1)]
    attentions = []
    for block in model.blocks:
        block.attn.fused_attn = False
        block.attn.attn_drop = nn.Identity()
        block.attn.attn_drop.register_forward_hook(lambda _m, i, _out: attentions.append(i[0]))
    score = model(images)[:, 1].sum()
    expected = list(expected_of(attentions[:], score, 1, (4, size[1] // 8)))
    torch.testing.assert_close(fused[0], expected[0], rtol=1e-10, atol=1e-13)
    assert_equal_to(expected, model, images, 1)


def test_equals_hugging_face():
    hub = pytest.importorskip("transformers")
    config = hub.ViTConfig(
        image_size=32,
        patch_size=8,
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=32,
        num_labels=CLASSES,
    )
    torch.manual_seed(0)
    model = shaken(hub.ViTForImageClassification(config)).double()
    images = pictures(2, 32)
    config = copy.deepcopy(config)
    eager = hub.ViTForImageClassification._from_config(config, attn_implementation="eager")
    eager.load_state_dict(model.state_dict())
    output = eager.double().eval()(images, output_attentions=True)
    expected = list(expected_of(output.attentions, output.logits[:, 2].sum(), 1, (4, 4)))
    for same in (model, eager):
        assert_equal_to(expected, same, images, 2, rtol=1e-4)  # eager attention is in float32
