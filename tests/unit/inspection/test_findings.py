"""Every finding has a network that it is said of, and one that it is not said of."""

import pytest
import torch
from tiny import Head, network, pictures
from torch import nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

import atcon
from atcon.inspection import CHECKS

LEGACY = pytest.mark.filterwarnings("ignore:.*torch.jit")


def findings(name, model, images=None, layer=None):
    """What one check says."""
    images = pictures() if images is None else images
    return atcon.check(model, images, layer=layer, cost=name == "cost").named(name)


def levels(*arguments, **options):
    return {finding.level for finding in findings(*arguments, **options)}


def assert_said(level, words, *arguments, **options):
    """Hold that a check says these words at this level, and how to fix it."""
    said = findings(*arguments, **options)
    hits = [finding for finding in said if finding.level == level and words in finding.what]
    assert hits, said
    assert level == "ok" or all(finding.fix for finding in hits)


class Around(nn.Module):
    """A convolution, something done to its features, ReLU and a head."""

    def __init__(self, change, classes=4):
        super().__init__()
        self.change = change
        self.conv = nn.Conv2d(3, 6, 3)
        self.last = nn.Conv2d(6, 5, 3)
        self.head = nn.Linear(5, classes)
        self.double()

    def forward(self, x):
        x = self.change(functional.relu(self.conv(x)))
        return self.head(functional.relu(self.last(x)).flatten(2).mean(dim=2))


class After(nn.Module):
    """A network whose logits are changed."""

    def __init__(self, change, built="plain"):
        super().__init__()
        self.net, self.change = network(built), change

    def forward(self, x):
        return self.change(self.net(x))


def test_every_check_finds_something_to_say_of_a_sound_network():
    found = atcon.check(network("plain").requires_grad_(), pictures())
    assert {finding.name for finding in found.findings} == set(CHECKS)
    assert found.skipped == ()
    assert found.ok


@pytest.mark.parametrize("name", [name for name in CHECKS if name not in ("masks", "cost")])
def test_a_sound_network_gets_no_warning(name):
    assert levels(name, network("plain")) <= {"ok", "note"}


def test_a_wrapped_network_is_an_error_and_is_inspected_all_the_same():
    wrapped = nn.DataParallel(network("plain"))
    assert_said("error", "DataParallel", "parallel", wrapped)
    assert levels("maps", wrapped) == {"ok"}


def test_compiled_parts_are_named_and_inspected_as_written():
    parts = network("plain")
    parts[4].compile(backend="eager")
    assert_said("note", "compiled: 4.", "compiled", parts)
    whole = torch.compile(network("plain"), backend="eager")
    assert_said("note", "compiled: the network", "compiled", whole)
    assert levels("gradient", whole) == {"ok", "note"}
    assert levels("compiled", network("plain")) == {"ok"}


@LEGACY
def test_scripted_parts_hide_their_activations():
    scripted = network("plain")
    scripted[6] = torch.jit.script(nn.ReLU())
    assert_said("warning", "scripted: 6", "compiled", scripted)
    assert_said("error", "does not see", "activations", scripted)


def test_half_precision_and_several_devices_are_warned_of():
    half = network("plain", dtype=torch.bfloat16)
    images = pictures(dtype=torch.bfloat16)
    assert_said("warning", "half precision (bfloat16)", "precision", half, images)
    spread = network("plain")
    spread.register_buffer("elsewhere", torch.zeros(1, device="meta"))
    assert_said("warning", "cpu, meta", "precision", spread)
    assert_said("error", "scalar type", "logits", network("plain", dtype=torch.float32))


@pytest.mark.parametrize(
    ("change", "level", "words"),
    [
        (lambda x: x, "ok", "centred"),
        (lambda x: x.sigmoid(), "note", "not centred"),
        (torch.zeros_like, "warning", "constant"),
        (lambda x: x / 0, "error", "not finite"),
    ],
)
def test_images_must_be_finite_vary_and_be_centred(change, level, words):
    assert_said(level, words, "images", network("plain"), change(pictures()))


def test_frozen_parts_are_counted_and_a_frozen_network_is_an_error():
    model = network("plain")
    assert_said("ok", "all 335 weights", "frozen", model)
    model[0].requires_grad_(requires_grad=False)
    assert_said("note", "1 of 9 tensors are frozen (0.weight): 227 of 335", "frozen", model)
    found = atcon.check(model.requires_grad_(requires_grad=False), pictures())
    assert found.named("frozen")[0].level == "error"
    assert not found.named("gradient")
    assert not found.ok


def norms(change):
    model = network("plain")
    change(model[1], model[5])
    return model


def untrained(*layers):
    for layer in layers:
        layer.reset_running_stats()


def without_statistics(_, layer):
    layer.track_running_stats, layer.running_mean, layer.running_var = False, None, None


@pytest.mark.parametrize(
    ("change", "level", "words"),
    [
        (lambda first, second: None, "ok", "2 BatchNorm layers"),
        (untrained, "note", "looks untrained"),
        (without_statistics, "warning", "1 BatchNorm layer without running statistics (5)"),
        (lambda first, _: first.running_var.fill_(torch.nan), "error", "statistics of 1 are not"),
        (lambda first, _: first.train(), "note", "1 of 2 BatchNorm layers"),
        (lambda first, _: setattr(first, "momentum", None), "note", "momentum=None"),
        (lambda first, _: first.requires_grad_(requires_grad=False), "note", "frozen weights (1)"),
    ],
)
def test_batch_norm_needs_running_statistics_that_were_fitted(change, level, words):
    assert_said(level, words, "batch_norm", norms(change))


def test_one_untouched_layer_among_fitted_ones_is_no_untrained_network():
    assert levels("batch_norm", norms(lambda first, _: untrained(first))) == {"ok"}


@pytest.mark.parametrize(
    ("change", "level", "words"),
    [
        (lambda logits: logits, "ok", "4 classes; they depend"),
        (lambda logits: {"logits": logits}, "ok", "4 classes, taken from a dict"),
        (lambda logits: logits.softmax(dim=1), "warning", "probabilities"),
        (lambda logits: logits[:, :1], "note", "one logit"),
        (lambda logits: logits * 0, "error", "do not depend on the image"),
        (lambda logits: logits / 0, "error", "not finite"),
        (lambda logits: logits.sum(), "error", "must return logits"),
        (lambda logits: logits.detach(), "error", "carry no gradient"),
    ],
)
def test_logits_must_be_a_finite_function_of_the_image(change, level, words):
    assert_said(level, words, "logits", After(change))


def test_samples_that_interact_are_warned_of():
    assert_said(
        "warning", "other images", "samples", Around(lambda x: x - x.mean(dim=0, keepdim=True))
    )


def test_a_forward_pass_that_draws_at_random_is_warned_of():
    noisy = Around(lambda x: functional.dropout(x, training=True))
    assert_said("warning", "differ by up to", "repeatable", noisy)
    assert_said("ok", "1 dropout layer off", "repeatable", network("plain"))


def test_buffers_that_a_pass_writes_to_are_named():
    assert_said("note", "writes to seen, last", "buffers", network("edits"))


class Checkpointed(nn.Module):
    """Computes a part again in the backward pass: always, or in train mode only."""

    def __init__(self, *, reentrant=False, always=True):
        super().__init__()
        self.use_checkpoint, self.reentrant, self.always = True, reentrant, always
        self.stem = nn.Conv2d(3, 4, 3)
        self.part = nn.Sequential(nn.Conv2d(4, 5, 3), nn.ReLU())
        self.head = Head(5)
        self.double()

    def forward(self, x):
        x = self.stem(x)
        if self.always or self.training:
            x = checkpoint(self.part, x, use_reentrant=self.reentrant)
        else:
            x = self.part(x)
        return self.head(x)


def test_checkpointing_is_seen_by_what_it_computes_again():
    assert_said("ok", "run again", "checkpointing", Checkpointed())
    assert_said("note", "the network", "checkpointing", Checkpointed(always=False))
    assert_said("error", "reentrant", "logits", Checkpointed(reentrant=True), layer="part")
    assert_said("ok", "no activation checkpointing", "checkpointing", network("plain"))


def test_activations_outside_of_the_guided_rule_are_counted():
    assert_said("ok", "guided: 2 relu", "activations", network("plain"))
    assert_said("warning", "not guided: 1 tanh", "activations", Around(torch.tanh))
    linear = nn.Sequential(nn.Conv2d(3, 4, 3), Head(4)).double()
    assert_said("error", "no activation", "activations", linear)


class Once(torch.autograd.Function):
    """Twice its input, differentiable only once."""

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x * x

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, grad):
        return 2 * grad * ctx.saved_tensors[0]


class Attends(nn.Module):
    """Attention between positions, by PyTorch's kernel."""

    def __init__(self):
        super().__init__()
        self.attention = nn.MultiheadAttention(6, 2, batch_first=True)

    def forward(self, x):
        tokens = x.flatten(2).transpose(1, 2)
        mixed = self.attention(tokens, tokens, tokens, need_weights=False)[0]
        return mixed.transpose(1, 2).reshape(x.shape)


def test_what_cannot_be_differentiated_twice_is_tried_and_not_guessed():
    assert_said("ok", "differentiate the network twice", "double_backward", network("plain"))
    torch.manual_seed(0)  # a network whose maps are trivial would get a warning too
    fused = Around(Attends())
    assert_said("note", "1 call of attention kernels", "double_backward", fused)
    assert levels("gradient", fused) == {"ok", "note"}
    once = Around(Once.apply)
    assert_said("note", "once_differentiable", "double_backward", once)
    assert_said("warning", "through the mask fails", "gradient", once)


def test_the_layer_is_judged_by_its_cells_and_its_place():
    deep = nn.Sequential(
        *(nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(4, 4, 1), nn.ReLU()),
        *(nn.MaxPool2d(2), nn.Conv2d(4, 4, 1), nn.ReLU(), nn.Conv2d(4, 4, 1), nn.ReLU(), Head(4)),
    ).double()
    assert_said("warning", "3x3 cells; earlier stages: 4 (6x6)", "layer", deep)
    assert_said("ok", "6x6 cells; earlier stages: 4 (12x12)", "layer", deep, pictures(size=24))
    assert_said("warning", "early layer: 1 of 5", "layer", deep, layer="1")
    assert_said("error", "no layer 'nine'", "layer", deep, layer="nine")
    assert_said("ok", "as asked for", "layer", deep, pictures(size=24), layer=deep[9])


def test_the_heads_of_an_attention_are_no_stage():
    class Heads(nn.Module):
        def __init__(self):
            super().__init__()
            self.norm = nn.LayerNorm(3)

        def forward(self, x):  # [batch, heads, tokens, features of a head]
            heads = self.norm(x.flatten(2).transpose(1, 2).reshape(len(x), 2, -1, 3))
            return heads.reshape(len(x), -1, x.shape[1]).transpose(1, 2).reshape(x.shape)

    finding = atcon.check(Around(Heads()), pictures(), cost=False).named("layer")[0]
    assert "norm" not in finding.what, finding.what


def test_an_output_that_is_overwritten_later_is_noted():
    assert_said("note", "output of 4 is overwritten", "in_place", network("inplace"), layer="4")
    assert_said("ok", "output of 5", "in_place", network("inplace"), layer="5")


def test_maps_must_be_finite_vary_and_differ():
    assert_said("ok", "finite, not constant", "maps", network("plain"))
    same = pictures()[:1].expand(2, -1, -1, -1).clone()
    assert_said("note", "correlate at 1.000", "maps", network("plain"), same)
    flat = Around(lambda x: x.mean(dim=(2, 3), keepdim=True).expand_as(x))
    assert_said("warning", "constant over the image: Grad-CAM", "maps", flat)
    endless = Around(lambda x: (x - x).sqrt() + x)
    assert_said("error", "not finite", "maps", endless)


def test_a_mask_without_contrast_is_a_trivial_agreement():
    assert_said("warning", "hardly masks", "masks", After(lambda logits: 1e-4 * logits))
    strong = After(lambda logits: 1e3 * logits)
    assert levels("masks", strong) == {"ok"}
    values = findings("masks", strong)[0].values
    assert set(values) == {"default", "paper", "reference"}
    assert all(0 <= value["contrast"] <= 0.5 for value in values.values())


def test_the_weights_without_a_gradient_are_named_and_ddp_with_them():
    said = findings("gradient", network("plain"))
    (without,) = [finding for finding in said if finding.level == "note"]
    assert without.values == {"weights": ["7.fc.bias"]}
    assert "find_unused_parameters=True" in without.fix


def test_a_gradient_that_is_zero_or_not_finite_is_said():
    flat = Around(lambda x: x.mean(dim=(2, 3), keepdim=True).expand_as(x))
    assert_said("warning", "zero everywhere", "gradient", flat)


def test_the_cost_is_measured_in_seconds_and_bytes():
    (said,) = findings("cost", network("plain"), pictures(4))
    ways = {"supervised", "mask detached (default)", "through the mask"}
    assert set(said.values["seconds"]) == {*ways, "through the mask, micro_batch=1"}
    assert all(value > 0 for value in said.values["seconds"].values())
    peaks = said.values["peak_bytes"]
    assert peaks["supervised"] < peaks["mask detached (default)"] <= peaks["through the mask"]


def test_a_network_that_does_not_run_is_one_error_and_no_traceback():
    found = atcon.check(network("plain"), pictures()[:, :2])
    assert found.level == "error"
    (said,) = found.named("logits")
    assert "to have 3 channels" in said.what
    assert "channels" in said.fix
    assert set(found.skipped) >= {"samples", "activations", "layer", "masks", "gradient", "cost"}
    assert len([finding for finding in found.findings if finding.level == "error"]) == 1


@pytest.mark.parametrize(
    ("images", "words"),
    [
        (torch.zeros(0, 3, 8, 8), "(0, 3, 8, 8)"),
        (torch.zeros(3, 8), "(3, 8)"),
        ([1, 2], "list"),
        (torch.zeros(2, 3, 8, 8, dtype=torch.uint8), "torch.uint8"),
    ],
)
def test_what_is_no_batch_of_images_is_refused(images, words):
    with pytest.raises(atcon.InputError) as refused:
        atcon.check(network("plain"), images)
    assert words in str(refused.value)


def test_the_verdict_counts_and_the_text_holds_every_finding():
    found = atcon.check(network("plain").requires_grad_(requires_grad=False), pictures())
    assert found.verdict.startswith("1 error")
    assert "not ready" in found.verdict
    text = str(found)
    assert all(finding.what in text and finding.fix in text for finding in found.findings)
    assert text.endswith(found.verdict)
