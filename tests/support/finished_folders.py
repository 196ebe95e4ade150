"""Finished run folders as a comparison reads them: small, seeded, and with knobs to turn."""

import json
from pathlib import Path
from typing import Any

import numpy as np

from atcon.records import write_csv, write_json, write_text

CLASSES = ("cat", "name", "sheep; or goat")
"""One is called like a column, one holds the separator of labels."""
OTHER = {"supervised": 0.3, "combined": 0.35}
"""The `lifts` of another method's stages."""


def make_finished(
    root: Path,
    seed: int = 0,
    method: int = 0,
    lifts: dict[str, float] | None = None,
    *,
    images: int = 60,
    classes: tuple[str, ...] = CLASSES,
    multi_label: bool = True,
    resamples: int = 200,
    boxes: bool = True,
) -> Path:
    """Write a run folder.

    Args:
        root: Where.
        seed: Draws the training images and the noise of the answers.
        method: What the configuration says besides the seed.
        lifts: How much better every stage is than chance; a stage is the same for every method
            that gives it the same lift.
        images: How many test images.
        classes: Names.
        multi_label: Whether an image may have two.
        resamples: As the summary says.
        boxes: Whether the test images have any.
    """
    lifts = lifts or {"supervised": 0.3, "consistency": 0.5, "uniform": 0.4}
    world = np.random.default_rng(99)
    test = [_image(world, f"t{at}", classes, multi_label) for at in range(images)]
    own = np.random.default_rng(seed)
    parts = {
        "train": [_image(own, f"pool{at}", classes, multi_label) for at in own.permutation(20)[:6]],
        "validation": [_image(own, f"held{at}", classes, multi_label) for at in range(4)],
        "test": test,
    }
    write_json(
        root / "split.json", {"seed": seed, "per_class": 2, "classes": list(classes), **parts}
    )
    write_text(root / "config.yaml", f"name: own\nseed: {seed}\nmodel:\n  method: {method}\n")
    for stage, lift in lifts.items():
        random = np.random.default_rng([seed, int(1000 * lift)])
        _write_stage(root, stage, random, lift, test, classes, boxes=boxes)
    write_json(
        root / "summary.json",
        {
            "seed": seed, "classes": list(classes), "multi_label": multi_label, "level": 0.95,
            "resamples": resamples,
            "stages": {stage: {"thresholds": [0.4, 0.5, 0.45][: len(classes)]} for stage in lifts},
        },
    )  # fmt: skip
    return root


def edit(path: Path, change: Any) -> None:
    """Change a record in place: `change` is given its content."""
    content = json.loads(path.read_text(encoding="utf-8"))
    change(content)
    path.write_text(json.dumps(content), encoding="utf-8")


def _image(
    random: np.random.Generator, name: str, classes: tuple[str, ...], multi_label: bool
) -> dict[str, Any]:
    count = 1 + int(multi_label and random.random() < 0.3)
    labels = random.choice(len(classes), count, replace=False)
    return {"name": name, "labels": [classes[at] for at in labels], "sha256": f"of {name}"}


def _write_stage(
    root: Path,
    stage: str,
    random: np.random.Generator,
    lift: float,
    test: list[dict[str, Any]],
    classes: tuple[str, ...],
    *,
    boxes: bool,
) -> None:
    said, placed = [], []
    for image in test:
        right = np.array([name in image["labels"] for name in classes])
        chances = np.clip(random.random(len(classes)) * (1 - lift) + lift * right, 0, 1)
        cells = [f"{chance:.12g}" for chance in chances]
        said.append([image["name"], ";".join(image["labels"]), "", *cells])
        top = int(chances.argmax())
        iou = f"{random.random() * 0.5 + lift / 2:.6f}" if boxes and right[top] else ""
        epg = f"{random.random():.6f}" if boxes and right[top] else ""
        agreement = f"{random.random():.6f}"
        placed.append([image["name"], classes[top], int(right[top]), iou, epg, agreement, "0.1"])
    write_csv(
        root / "predictions" / f"{stage}.csv", ["name", "labels", "predicted", *classes], said
    )
    head = ["name", "class", "correct", "iou", "epg", "correlation", "mask_contrast"]
    write_csv(root / "localisation" / f"{stage}.csv", head, placed)
