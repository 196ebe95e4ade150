"""Plans of the published methods that ours is compared with (docs/deviations.md)."""

from collections.abc import Iterator
from dataclasses import replace

import torch
from torch import nn

from atcon.baselines import (
    FixMatchLoss,
    LaSO,
    LaSOLoss,
    LayerAttentionLoss,
    SimCLRLoss,
    features_of,
    fit_classifier,
    fixmatch_step,
    laso_step,
    layer_attention_step,
    simclr_step,
    sum_of,
)
from atcon.data import VIEWS
from atcon.errors import InputError
from atcon.experiments.bench import (
    Bench,
    inputs_of,
    labelled_batches,
    labelled_count,
    seeded,
    step_of,
    unlabelled_batches,
    unlabelled_count,
    view_batches,
)
from atcon.experiments.method_arms import fine_tuning
from atcon.experiments.stages import Plan
from atcon.experiments.supervised_arms import supervised_step_of
from atcon.training import Batch, Outcome, Step, every_batch, generator_of, step_policy


def layer_attention(bench: Bench) -> Plan:
    """Fine-tune for layer attention consistency (L_AC alone: the row of table 2)."""
    settings = bench.config.consistency
    loss = _layer_attention_loss(bench, separability=False)
    step = _layer_step(bench, loss)
    batches = unlabelled_batches(bench, "consistency", settings.batch_size)
    return Plan(settings, every_batch(step, batches), unlabelled_count(bench, settings))


def layer_attention_full(bench: Bench) -> Plan:
    """Train with the full method: the labels' loss + L_AC + L_AS of both layers."""
    settings = bench.config.supervised
    loss = _layer_attention_loss(bench, separability=True)
    weight = bench.config.layer_attention.weight
    layers = _weighted(_layer_step(bench, loss), weight)
    labels, own = supervised_step_of(bench, settings)
    step = sum_of(own, layers)
    batches = labelled_batches(bench, "supervised", settings.batch_size)
    count = labelled_count(bench, settings)
    return Plan(
        settings,
        every_batch(step, batches),
        count,
        keep_start=False,
        choose="labels",
        losses=(labels,),
    )


def layer_attention_ours(bench: Bench) -> Plan:
    """Fine-tune for both: consistency of our maps and of the layers'."""
    plan = fine_tuning(bench)
    loss = _layer_attention_loss(bench, separability=False)
    layers = _layer_step(bench, loss)

    def schedule(epoch: int) -> Iterator[tuple[Step, Batch]]:
        return ((sum_of(step, layers), batch) for step, batch in plan.schedule(epoch))

    return replace(plan, schedule=schedule)


def simclr_pretraining(bench: Bench) -> Plan:
    """Pretrain on two views of the same images; the last epoch is kept."""
    settings = bench.config.simclr
    loss = SimCLRLoss(
        bench.network.module,
        bench.network.head,
        temperature=settings.temperature,
        decoupled=settings.decoupled,
        queue_size=settings.queue,
        batch_norm=step_policy(settings.batch_norm),
        generator=generator_of(bench.config.seed, "simclr"),
    )
    parts = nn.ModuleDict({"projection": loss.projection})
    if loss.queue is not None:
        parts["queue"] = loss.queue
    parts.to(bench.fabric.device)
    step = simclr_step(bench.fabric.setup_module(loss), loss)
    view = VIEWS[settings.views]
    batches = view_batches(bench, "simclr", settings.batch_size, view, view)
    count = unlabelled_count(bench, settings)
    return Plan(
        settings, every_batch(step, batches), count, parts=parts, keep_start=False, choose="last"
    )


def laso(bench: Bench) -> Plan:
    """Train LaSO on the supervised network's features; its classifier becomes the head."""
    settings, network = bench.config.laso, bench.network
    if not bench.multi_label:
        raise InputError("baselines: laso works on sets of labels, but these data have one each")
    first = inputs_of(bench.train.pixels[:1], network, bench.fabric.device)
    networks = LaSO(
        features_of(network.module, network.head, first).shape[1],
        bench.train.labels.shape[1],
        settings.hidden,
        settings.hidden_subtraction,
        generator=generator_of(bench.config.seed, "laso"),
    ).to(bench.fabric.device, next(network.module.parameters()).dtype)
    head, pairs = network.module.get_submodule(network.head), torch.Generator()
    loss = LaSOLoss(networks, network.module, network.head, generator=pairs)
    step = laso_step(bench.fabric.setup_module(loss), loss)
    batches = seeded(
        bench, labelled_batches(bench, "laso", settings.batch_size), pairs, "laso-pairs"
    )

    def put_classifier() -> None:
        images = inputs_of(bench.train.pixels, network, bench.fabric.device)
        found = fit_classifier(
            features_of(network.module, network.head, images),
            bench.train.labels.to(bench.fabric.device),
            generator_of(bench.config.seed, "laso-classifier"),
            laso=networks,
            epochs=settings.classifier_epochs,
            batch_size=settings.batch_size,
        )
        weight = found.weight.detach().reshape(head.state_dict()["weight"].shape)
        head.load_state_dict({"weight": weight, "bias": found.bias.detach()})

    return Plan(
        settings,
        every_batch(step, batches),
        labelled_count(bench, settings),
        parts=nn.ModuleDict({"laso": networks}),
        only=lambda _name: False,
        keep_start=False,
        choose="last",
        finish=put_classifier,
    )


def fixmatch(bench: Bench) -> Plan:
    """Fine-tune on pseudo-labels: what is sure in a weak view labels the strong one."""
    settings = bench.config.fixmatch
    loss = FixMatchLoss(
        bench.network.module,
        multi_label=bench.multi_label,
        threshold=settings.threshold,
        batch_norm=step_policy(settings.batch_norm),
    )
    step = fixmatch_step(bench.fabric.setup_module(loss), loss)
    batches = view_batches(bench, "fixmatch", settings.batch_size, VIEWS["weak"], VIEWS["strong"])
    return Plan(settings, every_batch(step, batches), unlabelled_count(bench, settings))


def _layer_attention_loss(bench: Bench, *, separability: bool) -> LayerAttentionLoss:
    settings = bench.config.layer_attention
    return LayerAttentionLoss(
        bench.network.module,
        settings.layers,
        separability=separability,
        omega=settings.omega,
        threshold=settings.threshold,
    )


def _layer_step(bench: Bench, loss: LayerAttentionLoss) -> Step:
    return step_of(bench, loss, lambda module: layer_attention_step(module, loss))


def _weighted(step: Step, weight: float) -> Step:
    def weighted(batch: Batch) -> Outcome:
        outcome = step(batch)
        return Outcome(weight * outcome.loss, outcome.logged)

    return weighted
