"""The main job: train, fine-tune for consistency, run the control, evaluate, write the records."""

import time
from contextlib import nullcontext
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning_fabric import Fabric

import atcon
from atcon import records
from atcon.attention import resolve_layer
from atcon.data import ImageSet, Reader, Split, load
from atcon.evaluation import fit_thresholds
from atcon.experiments import summary
from atcon.experiments.arms import arms_of
from atcon.experiments.bench import Bench, probabilities_of
from atcon.experiments.config import dump_config, variant_of
from atcon.experiments.dividing import check_divisible, count_of, on_gpu, started_by_torchrun
from atcon.experiments.folder import RunFolder
from atcon.experiments.gallery import draw_pictured, write_gallery
from atcon.experiments.judge import Verdicts, guided_activations, judge, try_maps
from atcon.experiments.launch import launch
from atcon.experiments.method_arms import consistency_loss
from atcon.experiments.parts import check_unchanged, followed_of, split_of, twins_of, unlabelled_of
from atcon.experiments.progress import Progress
from atcon.experiments.resampling import groups_of, resampled_record, weights_for
from atcon.experiments.sections import RunConfig
from atcon.experiments.setup import fabric_of, metric_of, placed, size_of, stage_network
from atcon.experiments.shared import run_or_share
from atcon.experiments.sources import check_fit, image_set_of, network_of
from atcon.experiments.stages import StageResult
from atcon.experiments.tables import write_stage_tables
from atcon.models import Network
from atcon.training import ALONE, Processes, check_padding, together
from atcon.training.selection import weights_of

SUPERVISED, CONSISTENCY, UNIFORM = "supervised", "consistency", "uniform"


def run(
    config: RunConfig,
    out: Path,
    *,
    resume: bool = False,
    progress: Progress | None = None,
    shared: Path | None = None,
) -> dict[str, Any]:
    """Run the whole pipeline into a folder and give its summary; the report is drawn from it.

    Args:
        config: All that it depends on.
        out: The folder.
        resume: Whether an unfinished run there is continued.
        progress: Told about every step.
        shared: A folder of supervised stages that runs share; None shares none.

    Raises:
        InputError: The configuration, the data, the weights or the folder is wrong.
        AtconError: One of several processes was lost, or failed.
    """
    count, started = count_of(config), started_by_torchrun()
    if count > 1:
        check_divisible(config, count)
    work = partial(_run, config, out, resume, shared)
    if count == 1:
        return work(ALONE, progress or Progress())
    if started is not None:
        with together(*started, "env://", on_gpu=on_gpu(config)) as processes:
            return work(processes, progress or Progress())
    RunFolder(out).check(dump_config(config), resume=resume)
    result: dict[str, Any] = launch(work, count, progress or Progress(), on_gpu=on_gpu(config))
    return result


def _run(
    config: RunConfig,
    out: Path,
    resume: bool,
    shared: Path | None,
    processes: Processes,
    progress: Progress,
) -> dict[str, Any]:
    """Run the pipeline in this process, of several or alone; the first one alone writes."""
    began = time.perf_counter()
    folder, config_text = RunFolder(out), dump_config(config)
    if processes.first:
        folder.check(config_text, resume=resume)
    image_set = image_set_of(config.data, progress)
    network = network_of(config, len(image_set.classes))
    check_fit(network, image_set)
    fabric = fabric_of(config, processes)
    reader = Reader(image_set, size_of(config, network))
    split = split_of(config, reader)
    bench = _bench(config, folder, fabric, reader, network, split, progress)
    bench.processes = processes
    for one in (config, *(variant_of(config, name) for name in config.variants)):
        try_maps(one, bench.network, bench.layer, bench.train.pixels[:1], fabric)

    def judged(results: dict[str, StageResult]) -> dict[str, Any]:
        record = _judged(bench, image_set, split, results)
        record["seconds"]["total"] = round(time.perf_counter() - began, 2)
        records.write_json(folder.summary, record)
        return record

    with folder.claimed(config_text, resume=resume) if processes.first else nullcontext():
        results = _trained(bench, image_set, split, shared)
        return processes.same(lambda: judged(results))


def _trained(
    bench: Bench, image_set: ImageSet, split: Split, shared: Path | None
) -> dict[str, StageResult]:
    """Train all arms."""
    if bench.processes.first:
        _write_split(bench, image_set, split)
    arms = arms_of(bench.config)
    results = {name: run_or_share(bench, name, arm, shared) for name, arm in arms.items()}
    if bench.processes.first:  # a run that was killed at the end of its last stage has one left
        bench.folder.last.unlink(missing_ok=True)
    return results


def _judged(
    bench: Bench, image_set: ImageSet, split: Split, results: dict[str, StageResult]
) -> dict[str, Any]:
    """Evaluate all arms, write their records, and give the summary."""
    began, arms = time.perf_counter(), arms_of(bench.config)
    judged = [name for name, arm in arms.items() if arm.judged]
    same = {
        name: str(arms[name].start)
        for name in judged
        if not results[name].kept and arms[name].start in judged
    }
    verdicts, thresholds = _judge_stages(bench, image_set, split, judged, same)
    _write_parts(bench, image_set, split, verdicts)
    shown = {name: results[name] for name in judged}
    record = _summary(bench, image_set, split, shown, verdicts, thresholds)
    seconds = {stage: result.seconds for stage, result in results.items()}
    record["seconds"] = {**seconds, "evaluation": round(time.perf_counter() - began, 2)}
    return record


def _bench(
    config: RunConfig,
    folder: RunFolder,
    fabric: Fabric,
    reader: Reader,
    network: Network,
    split: Split,
    progress: Progress,
) -> Bench:
    image_set, size, policy = reader.image_set, reader.size, config.data.on_bad_image
    train = load(reader, split.train, policy)
    validation = load(reader, split.validation, policy) if split.validation else None
    extra = unlabelled_of(config, reader, split)
    module = placed(config, network.module, fabric)
    blank = torch.zeros(1, *image_set.shape(size), device=fabric.device)
    if config.model.padding is not None:
        check_padding(module, blank)
    layer, _ = resolve_layer(
        module,
        config.model.layer,
        blank,
        consistency_loss(config, module, config.model.layer).preset.layer,
    )
    for name, reason in split.skipped:
        progress.note(f"skipped {name}: {reason}")
    for name, remark in image_set.notes:
        progress.note(f"{name}: {remark}")
    counts = f"{len(train.examples)} training, {len(split.validation)} validation"
    if extra is not None:
        counts += f", {len(extra.examples)} unlabelled"
    progress.note(
        f"{counts}, {len(split.test)} test {image_set.unit}; {network.name}, Grad-CAM at {layer}"
    )
    return Bench(
        config=config,
        folder=folder,
        fabric=fabric,
        network=replace(network, module=module),
        pretrained=weights_of(module),
        train=train,
        unlabelled=extra,
        validation=validation,
        followed=followed_of(config, reader, split),
        multi_label=image_set.multi_label,
        metric=metric_of(config, image_set),
        layer=layer,
        progress=progress,
    )


def _judge_stages(
    bench: Bench, image_set: ImageSet, split: Split, stages: list[str], same: dict[str, str]
) -> tuple[Verdicts, dict[str, Any]]:
    """Evaluate every stage on the test images; fit its thresholds on the validation images.

    A stage that kept its start (`same`) is the network of that one, which is evaluated once.
    """
    networks = {
        stage: stage_network(
            bench.config, bench.folder, len(image_set.classes), stage, bench.fabric
        )
        for stage in stages
        if stage not in same
    }
    thresholds = {stage: _thresholds(bench, network) for stage, network in networks.items()}
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
    for stage in (stage for stage in stages if stage in same):  # a start precedes who starts there
        verdicts.repeat(same[stage], stage)
        thresholds[stage] = thresholds[same[stage]]
    verdicts.stages = {stage: verdicts.stages[stage] for stage in stages}
    return verdicts, thresholds


def _thresholds(bench: Bench, network: Network) -> Any:
    """Fit a network's thresholds on the validation images; 0.5 where there are none."""
    if bench.validation is None:
        return np.full(bench.train.labels.shape[1], 0.5)
    scores = probabilities_of(
        network,
        bench.validation.pixels,
        multi_label=bench.multi_label,
        fabric=bench.fabric,
    )
    return fit_thresholds(bench.validation.labels.numpy().astype(bool), scores)


def _write_split(
    bench: Bench, image_set: ImageSet, split: Split, verdicts: Verdicts | None = None
) -> None:
    """Write `split.json`; what is known of the test images only after they were opened.

    Raises:
        InputError: The run was begun with other images.
    """
    seen = verdicts or Verdicts()
    known = {
        part: {} if images is None else images.hashes
        for part, images in (("train", bench.train), ("validation", bench.validation))
    }
    full = replace(split, skipped=(*split.skipped, *seen.skipped))
    record = full.to_record({**known["train"], **known["validation"], **seen.hashes})
    if bench.unlabelled is not None:  # what is trained on with labels may be in it, too
        known["train"] = {**bench.unlabelled.hashes, **known["train"]}
    twins = twins_of({**known, "test": seen.hashes})
    new = [twin for twin in twins if (twin[0] in seen.hashes) is (verdicts is not None)]
    if new:
        bench.progress.note(
            f"{len(new)} {image_set.unit} are in two parts, such as {new[0][0]}: {new[0][1]}"
        )
    notes = (*image_set.notes, *twins)
    record["notes"] = [{"name": name, "remark": remark} for name, remark in notes]
    if bench.unlabelled is not None:
        extra = bench.unlabelled
        record["unlabelled"] = [
            {"name": example.name, "sha256": extra.hashes[example.name]}
            for example in extra.examples
        ]
    if verdicts is None and bench.folder.split.exists():
        check_unchanged(records.read_json(bench.folder.split), record, bench.folder.split)
    records.write_json(bench.folder.split, record)


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
        rate=image_set.rate,
    )


def clip_record(image_set: ImageSet) -> dict[str, Any]:
    """Give the form of the clips, and how many of what length there are; nothing of images."""
    found: dict[str, Any] = {}
    if image_set.frames is not None:
        found["clip"] = {"frames": image_set.frames, "rate": image_set.rate}
    if image_set.described is not None:
        tables = {part: table.to_record() for part, table in image_set.described.items()}
        found["described"] = tables
    return found


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
    groups = groups_of((example.name, example.group) for example in verdicts.examples)
    weights = weights_for(len(verdicts.examples), groups, config.evaluation.resamples, config.seed)
    units = resampled_record(groups)
    scores = summary.scores_of(verdicts, thresholds, multi_label=image_set.multi_label)
    before, after = scores[SUPERVISED], scores[CONSISTENCY]
    gain = summary.gain_record(after, before, weights, level)
    controls = summary.control_record(
        after,
        before,
        scores.get(UNIFORM),
        weights,
        level,
        calibrated=bench.validation is not None,
    )
    titles = {name: arm.title for name, arm in arms_of(config).items()}
    arms = {
        name: {
            "title": titles[name],
            **summary.arm_record(scores[name], after, before, weights, level),
        }
        for name in (*config.variants, *config.baselines)
    }
    ours = results[CONSISTENCY]
    size = size_of(config, bench.network)
    return {
        "atcon": atcon.__version__,
        "name": config.name,
        "strategy": config.strategy,
        "judged": config.data.judged,
        "data": image_set.name,
        "seed": config.seed,
        "classes": list(classes),
        "multi_label": image_set.multi_label,
        "unit": image_set.unit,
        **clip_record(image_set),
        "primary": bench.metric,
        "level": level,
        "resamples": config.evaluation.resamples,
        **units,
        "counts": {
            "train": len(bench.train.examples),
            "validation": len(split.validation),
            "unlabelled": 0 if bench.unlabelled is None else len(bench.unlabelled.examples),
            "test": len(verdicts.examples),
            "skipped": len(split.skipped) + len(verdicts.skipped),
        },
        "model": {
            "name": bench.network.name,
            "layer": bench.layer,
            "guided": guided_activations(bench.network, image_set.shape(size), bench.fabric.device),
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
        "arms": arms,
        "floors": summary.floor_record(verdicts.stages[SUPERVISED]),
        "verdict": summary.verdict_record(
            ours.kept,
            ours.epochs,
            gain,
            controls,
            chooser=ours.selected_by,
            over=units["resampled"],
            unit=image_set.unit,
        ),
    }
