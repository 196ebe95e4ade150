import pytest
import torch
from torch import nn
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from atcon.attention.attention_weights import attend

FUSED = functional.scaled_dot_product_attention
CAUSAL = torch.ones(5, 5, dtype=torch.bool).triu(1)


class Replaced(TorchFunctionMode):
    """While entered, attention is computed in plain arithmetic and its weights are kept."""

    def __init__(self):
        super().__init__()
        self.weights = []

    def __torch_function__(self, func, types, args=(), kwargs=None):
        attended = attend(func, args, kwargs or {})
        if attended is None:
            return func(*args, **(kwargs or {}))
        self.weights.append(attended.weights)
        return attended.result


def heads(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"is_causal": True},
        {"scale": 0.3},
        {"attn_mask": CAUSAL},
        {"attn_mask": heads(2, 1, 5, 5)},
        {"attn_mask": torch.zeros(5, 5, dtype=torch.bool)},
        {"attn_mask": torch.full((5, 5), -torch.inf, dtype=torch.float64)},
    ],
    ids=["plain", "causal", "scaled", "masked", "biased", "blind", "blind by bias"],
)
def test_equals_the_fused_attention(options):
    q, k, v = (heads(2, 4, 5, 3, seed=seed) for seed in range(3))
    result, weights = attend(FUSED, (q, k, v), options)
    torch.testing.assert_close(result, FUSED(q, k, v, **options))
    torch.testing.assert_close(weights @ v, result)
    assert weights.isfinite().all()


def test_equals_the_fused_attention_with_shared_heads():
    q, k, v = heads(2, 6, 5, 3), heads(2, 2, 7, 3, seed=1), heads(2, 2, 7, 3, seed=2)
    result, weights = attend(FUSED, (q, k, v), {"enable_gqa": True})
    torch.testing.assert_close(result, FUSED(q, k, v, enable_gqa=True))
    assert weights.shape == (2, 6, 5, 7)


def test_dropout_is_off():
    q, k, v = (heads(2, 4, 5, 3, seed=seed) for seed in range(3))
    result, _ = attend(FUSED, (q, k, v), {"dropout_p": 0.5})
    torch.testing.assert_close(result, FUSED(q, k, v))


def test_half_precision_keeps_its_type_and_normalises_in_single():
    q, k, v = (heads(2, 4, 50, 3, seed=seed).bfloat16() for seed in range(3))
    result, weights = attend(FUSED, (q, k, v), {})
    assert result.dtype == weights.dtype == torch.bfloat16
    torch.testing.assert_close(result, FUSED(q, k, v), rtol=0.02, atol=0.02)


def test_has_a_second_derivative():
    q, k, v = (heads(1, 2, 3, 2, seed=seed).requires_grad_() for seed in range(3))
    mask = torch.ones(3, 3, dtype=torch.bool).tril()
    assert torch.autograd.gradgradcheck(
        lambda *x: attend(FUSED, x, {"attn_mask": mask}).result, (q, k, v)
    )


@pytest.mark.parametrize(
    "build",
    [
        {"batch_first": True},
        {"batch_first": True, "bias": False},
        {"batch_first": True, "kdim": 6, "vdim": 6},
        {"batch_first": True, "add_bias_kv": True},
        {"batch_first": True, "add_zero_attn": True},
        {},
    ],
    ids=["packed", "no bias", "apart", "bias kv", "zero", "sequence first"],
)
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"need_weights": False},
        {"average_attn_weights": False},
        {"key_padding_mask": torch.tensor([[0, 0, 1, 0, 1]] * 5).bool()},
        {"attn_mask": CAUSAL, "is_causal": True},
        {"attn_mask": heads(10, 5, 5), "key_padding_mask": heads(5, 5)},
    ],
    ids=["plain", "no weights", "each head", "padding", "causal", "both masks"],
)
def test_equals_multi_head_attention(build, options):
    torch.manual_seed(0)
    module = nn.MultiheadAttention(8, 2, dropout=0.1, **build).double().eval()
    query, keys = heads(5, 5, 8), heads(5, 5, module.kdim, seed=1)
    expected = module(query, keys, keys, **options)
    with Replaced() as mode:
        found = module(query, keys, keys, **options)
    torch.testing.assert_close(found, expected)
    rare = build.keys() & {"add_bias_kv", "add_zero_attn"}
    assert [None if w is None else w.shape for w in mode.weights] == [
        None if rare else (5, 2, 5, 5)
    ]


def test_unbatched_multi_head_attention_is_pytorchs():
    module, x = nn.MultiheadAttention(8, 2).double().eval(), heads(5, 8)
    expected = module(x, x, x)
    with Replaced() as mode:
        torch.testing.assert_close(module(x, x, x), expected)
    assert mode.weights == [None]


@pytest.mark.parametrize(
    ("call", "kept"),
    [
        (lambda x: x.softmax(-1), True),
        (lambda x: torch.softmax(x, dim=3), True),
        (lambda x: functional.softmax(x, dim=-1, dtype=torch.float64), True),
        (nn.Softmax(dim=-1), True),
        (lambda x: x.softmax(1), False),
        (lambda x: x[0, 0].softmax(-1), False),
        (lambda x: x[..., :2].softmax(-1), False),
    ],
)
def test_an_attention_that_is_written_out_shows_its_weights(call, kept):
    scores = heads(2, 4, 5, 5)
    with Replaced() as mode:
        result = call(scores)
    assert torch.equal(result, call(scores))
    assert (mode.weights[-1] is not None) == kept


def test_other_functions_are_left_alone():
    assert attend(torch.relu, (heads(2, 2),), {}) is None
