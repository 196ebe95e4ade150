"""Attention in plain arithmetic, softmax(Q K^T / sqrt(d)) V: differentiable twice, in full sight.

Fused attention kernels have no double backward and show no weights. While a model is traced, every
attention is computed as written here, whoever calls it; its value is the same.
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional


class Attended(NamedTuple):
    """What an attention call gives.

    Attributes:
        result: What the replaced function returns.
        weights: `[batch, head, query, key]`, or as the caller has it without heads; a part of the
            graph. None: not to be had.
    """

    result: Any
    weights: Tensor | None


def attend(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Attended | None:
    """Compute an attention call in plain arithmetic, without dropout. None: another function."""
    replaced = _ATTENTIONS.get(func)
    return None if replaced is None else replaced(*args, **kwargs)


def _scaled_dot_product(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,  # noqa: ARG001  a traced pass has no dropout
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Attended:
    if enable_gqa:
        key, value = (
            x.repeat_interleave(query.shape[-3] // x.shape[-3], dim=-3) for x in (key, value)
        )
    scale = 1 / math.sqrt(query.shape[-1]) if scale is None else scale
    scores = (query * scale) @ key.transpose(-2, -1)
    if is_causal:
        attn_mask = torch.ones(scores.shape[-2:], dtype=torch.bool, device=scores.device).tril()
    weights = _softmax(scores, attn_mask).to(value.dtype)
    return Attended(weights @ value, weights)


def _softmax(scores: Tensor, mask: Tensor | None) -> Tensor:
    """Normalise each query's scores in float32 at least; one that sees no key attends to none."""
    if scores.dtype in (torch.float16, torch.bfloat16):
        scores = scores.float()
    if mask is None:
        return scores.softmax(dim=-1)
    scores = scores.masked_fill(~mask, -math.inf) if mask.dtype == torch.bool else scores + mask
    blind = (scores == -math.inf).all(dim=-1, keepdim=True)
    return scores.masked_fill(blind, 0).softmax(dim=-1).masked_fill(blind, 0)


def _multi_head(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    embed_dim_to_check: int,
    num_heads: int,
    in_proj_weight: Tensor | None,
    in_proj_bias: Tensor | None,
    *rest: Any,
    **options: Any,
) -> Attended:
    """`functional.multi_head_attention_forward`; its rarer options go through PyTorch's own."""
    named = dict(zip(_MULTI_HEAD_REST, rest, strict=False)) | options
    wanted = named.get("need_weights", True)
    rare = named["add_zero_attn"] or any(named.get(name) is not None for name in _RARE)
    if rare or query.ndim != 3:
        named["need_weights"] = True  # its only path without a fused kernel
        first = (query, key, value, embed_dim_to_check, num_heads, in_proj_weight, in_proj_bias)
        output, shown = functional.multi_head_attention_forward(*first, **named)
        return Attended((output, shown if wanted else None), None)
    parts = [named.get(f"{part}_proj_weight") for part in "qkv"]
    if in_proj_weight is not None and not named.get("use_separate_proj_weight"):
        parts = list(in_proj_weight.chunk(3))
    biases = [None] * 3 if in_proj_bias is None else list(in_proj_bias.chunk(3))
    q, k, v = (
        _heads(functional.linear(x, weight, bias), num_heads)  # type: ignore[arg-type]
        for x, weight, bias in zip((query, key, value), parts, biases, strict=True)
    )
    mask = _joined_mask(named.get("attn_mask"), named.get("key_padding_mask"), q)
    output, weights = _scaled_dot_product(q, k, v, mask)
    output = functional.linear(
        output.permute(2, 0, 1, 3).flatten(2), named["out_proj_weight"], named["out_proj_bias"]
    )
    shown = weights
    if named.get("average_attn_weights", True) and weights is not None:
        shown = weights.mean(dim=1)
    return Attended((output, shown if wanted else None), weights)


def _heads(x: Tensor, count: int) -> Tensor:
    """Rearrange `[token, batch, channel]` to `[batch, head, token, channel / head]`."""
    return x.reshape(*x.shape[:2], count, -1).permute(1, 2, 0, 3)


def _joined_mask(mask: Tensor | None, padding: Tensor | None, query: Tensor) -> Tensor | None:
    """Add `[query, key]` or `[batch * head, query, key]` to the keys that are padding."""
    masks = []
    if mask is not None:
        masks.append(mask.reshape(*query.shape[:2], *mask.shape[1:]) if mask.ndim == 3 else mask)
    if padding is not None:
        masks.append(padding[:, None, None])
    added = [
        torch.zeros_like(m, dtype=query.dtype).masked_fill(m, -math.inf)
        if m.dtype == torch.bool
        else m
        for m in masks
    ]
    return sum(added[1:], added[0]) if added else None


def _plain_softmax(function: Any) -> Callable[..., Attended]:
    """Keep what an attention that is written out already normalises over its keys."""

    def call(x: Tensor, *args: Any, **kwargs: Any) -> Attended:
        result = function(x, *args, **kwargs)
        dim = kwargs.get("dim", args[0] if args else None)
        square = result.ndim > 2 and result.shape[-1] == result.shape[-2]
        return Attended(result, result if square and dim in (-1, result.ndim - 1) else None)

    return call


_RARE = ("bias_k", "bias_v", "static_k", "static_v")
_MULTI_HEAD_REST = (
    "bias_k",
    "bias_v",
    "add_zero_attn",
    "dropout_p",
    "out_proj_weight",
    "out_proj_bias",
)
_SOFTMAXES = (functional.softmax, torch.softmax, Tensor.softmax)
_ATTENTIONS: dict[Any, Callable[..., Attended]] = {
    functional.scaled_dot_product_attention: _scaled_dot_product,
    functional.multi_head_attention_forward: _multi_head,
    **{function: _plain_softmax(function) for function in _SOFTMAXES},
}
"""Every way to call an attention, or the softmax of one."""
