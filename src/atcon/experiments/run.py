"""The main job: train, fine-tune for consistency, run the control, evaluate, write the records."""

import time
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
from lightning_fabric import Fabric

import atcon
from atcon import records
from atcon.attention import resolve_layer
from atcon.data import ImageSet, Reader, Split, few_shot_split, load
from atcon.evaluation import fit_thresholds
from atcon.experiments import summary
from atcon.experiments.config import RunConfig, dump_config
from atcon.experiments.folder import RunFolder
from atcon.experiments.gallery import draw_pictured, write_gallery
from atcon.experiments.judge import Verdicts, guided_activations, judge, try_maps
from atcon.experiments.progress import Progress
from atcon.experiments.setup import fabric_of, size_of, stage_network
from atcon.experiments.sources import image_set_of, network_of
from atcon.experiments.stages import (
    Bench,
    StageResult,
    consistency_loss,
    consistency_stage,
    probabilities_of,
    supervised_stage,
)
from atcon.experiments.tables import write_stage_tables
from atcon.models import Network

SUPERVISED, CONSISTENCY, UNIFORM = "supervised", "consistency", "uniform"


def run(
    config: RunConfig, out: Path, *, resume: bool = False, progress: Progress | None = None
) -> dict[str, Any]:
    """Run the whole pipeline into a folder and give its summary; the report is drawn from it.

    Raises:
        InputError: The configuration, the data, the weights or the folder is wrong.
    """
    began = time.perf_counter()
    progress = progress or Progress()
    folder, config_text = RunFolder(out), dump_config(config)
    folder.check(config_text, resume=resume)
    image_set = image_set_of(config.data)
    network = network_of(config, len(image_set.classes))
    fabric = fabric_of(config)
    reader = Reader(image_set, size_of(config, network))
    split = _split(config, reader)
    bench = _bench(config, folder, fabric, reader, network, split, progress)
    try_maps(config, bench.network, bench.layer, bench.train.pixels[:1], fabric)
    with folder.claimed(config_text, resume=resume):
        record = _run_stages(bench, image_set, split)
        record["seconds"]["total"] = round(time.perf_counter() - began, 2)
        records.write_json(folder.summary, record)
    return record


def _run_stages(bench: Bench, image_set: ImageSet, split: Split) -> dict[str, Any]:
    """Train all stages, evaluate them, write their records, and give the summary."""
    _write_split(bench, image_set, split)
    results = {SUPERVISED: supervised_stage(bench), CONSISTENCY: consistency_stage(bench)}
    if bench.config.controls.uniform:
        results[UNIFORM] = consistency_stage(bench, UNIFORM)
    began = time.perf_counter()
    verdicts, thresholds = _judge_stages(bench, image_set, split, list(results))
    _write_parts(bench, image_set, split, verdicts)
    record = _summary(bench, image_set, split, results, verdicts, thresholds)
    seconds = {stage: result.seconds for stage, result in results.items()}
    record["seconds"] = {**seconds, "evaluation": round(time.perf_counter() - began, 2)}
    return record


def _split(config: RunConfig, reader: Reader) -> Split:
    return few_shot_split(
        reader.image_set,
        per_class=config.data.per_class,
        validation_images=config.data.validation_images,
        seed=config.seed,
        test_images=config.data.test_images,
        problem=reader.problem if config.data.on_bad_image == "skip" else None,
    )


def _bench(
    config: RunConfig,
    folder: RunFolder,
    fabric: Fabric,
    reader: Reader,
    network: Network,
    split: Split,
    progress: Progress,
) -> Bench:
    image_set, size = reader.image_set, reader.size
    train, validation = (
        load(reader, part, config.data.on_bad_image) for part in (split.train, split.validation)
    )
    module = fabric.to_device(network.module)
    layer, _ = resolve_layer(
        module,
        config.model.layer,
        torch.zeros(1, 3, size, size, device=fabric.device),
        consistency_loss(config, module, config.model.layer).preset.layer,
    )
    for name, reason in split.skipped:
        progress.note(f"skipped {name}: {reason}")
    for name, remark in image_set.notes:
        progress.note(f"{name}: {remark}")
    progress.note(
        f"{len(train.examples)} training, {len(validation.examples)} validation, "
        f"{len(split.test)} test images; {network.name}, Grad-CAM at {layer}"
    )
    return Bench(
        config=config,
        folder=folder,
        fabric=fabric,
        network=replace(network, module=module),
        train=train,
        validation=validation,
        multi_label=image_set.multi_label,
        layer=layer,
        progress=progress,
    )


def _judge_stages(
    bench: Bench, image_set: ImageSet, split: Split, stages: list[str]
) -> tuple[Verdicts, dict[str, Any]]:
    """Evaluate every stage on the test images; fit its thresholds on the validation images."""
    networks = {
        stage: stage_network(
            bench.config, bench.folder, len(image_set.classes), stage, bench.fabric
        )
        for stage in stages
    }
    labels = bench.validation.labels.numpy().astype(bool)
    thresholds = {
        stage: fit_thresholds(
            labels,
            probabilities_of(
                network,
                bench.validation.pixels,
                multi_label=image_set.multi_label,
                fabric=bench.fabric,
            ),
        )
        for stage, network in networks.items()
    }
    verdicts = judge(
        bench.config,
        image_set,
        split.test,
        networks,
        size=size_of(bench.config, bench.network),
        layer=bench.layer,
        fabric=bench.fabric,
        progress=bench.progress,
        pictured=draw_pictured(split.test, bench.config.evaluation.gallery, bench.config.seed),
    )
    return verdicts, thresholds


def _write_split(
    bench: Bench, image_set: ImageSet, split: Split, verdicts: Verdicts | None = None
) -> None:
    """Write `split.json`; what is known of the test images only after they were opened."""
    seen = verdicts or Verdicts()
    hashes = {**bench.train.hashes, **bench.validation.hashes, **seen.hashes}
    full = replace(split, skipped=(*split.skipped, *seen.skipped))
    notes = [{"name": name, "remark": remark} for name, remark in image_set.notes]
    records.write_json(bench.folder.split, {**full.to_record(hashes), "notes": notes})


def _write_parts(bench: Bench, image_set: ImageSet, split: Split, verdicts: Verdicts) -> None:
    """Write predictions, localisation, the gallery, and the split with the test images' hashes."""
    _write_split(bench, image_set, split, verdicts)
    for stage, judged in verdicts.stages.items():
        write_stage_tables(bench.folder.root, stage, judged, verdicts, image_set)
    write_gallery(
        bench.folder.root / "gallery",
        verdicts,
        image_set.classes,
        multi_label=image_set.multi_label,
    )


def _summary(
    bench: Bench,
    image_set: ImageSet,
    split: Split,
    results: dict[str, StageResult],
    verdicts: Verdicts,
    thresholds: dict[str, Any],
) -> dict[str, Any]:
    config, classes = bench.config, image_set.classes
    level = config.evaluation.level
    weights = summary.weights_for(len(verdicts.examples), config.evaluation.resamples, config.seed)
    scores = summary.scores_of(verdicts, thresholds, multi_label=image_set.multi_label)
    before, after = scores[SUPERVISED], scores[CONSISTENCY]
    gain = summary.gain_record(after, before, weights, level)
    controls = summary.control_record(after, before, scores.get(UNIFORM), weights, level)
    ours = results[CONSISTENCY]
    size = size_of(config, bench.network)
    return {
        "atcon": atcon.__version__,
        "name": config.name,
        "data": image_set.name,
        "seed": config.seed,
        "classes": list(classes),
        "multi_label": image_set.multi_label,
        "primary": "map",
        "level": level,
        "resamples": config.evaluation.resamples,
        "counts": {
            "train": len(bench.train.examples),
            "validation": len(bench.validation.examples),
            "test": len(verdicts.examples),
            "skipped": len(split.skipped) + len(verdicts.skipped),
        },
        "model": {
            "name": bench.network.name,
            "layer": bench.layer,
            "guided": guided_activations(bench.network, size, bench.fabric.device),
        },
        "stages": {
            stage: {
                **asdict(result),
                "thresholds": [round(float(value), 6) for value in thresholds[stage]],
                **summary.test_record(scores[stage], weights, level, classes),
            }
            for stage, result in results.items()
        },
        "gain": gain,
        "controls": controls,
        "floors": summary.floor_record(verdicts.stages[SUPERVISED]),
        "verdict": summary.verdict_record(ours.kept, ours.epochs, gain, controls),
    }
