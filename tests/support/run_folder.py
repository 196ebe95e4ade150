"""A run folder as a run would leave it, made of scikit-learn's photographs and seeded numbers.

Its class labels and file names are hostile on purpose: they try to leave the text they stand in.
"""

import json
from pathlib import Path

import numpy as np
from sklearn.datasets import load_sample_images

from atcon.records import append_line, write_csv, write_json, write_text

CLASSES = (
    "cat",
    "dog & wolf",
    "<script>alert(1)</script>",
    "</script><img src=x onerror=alert(2)>",
    "\"quoted\" 'twice'",
    "🐎 horse",
    "\u202eright-to-left\u202c",
    "sheep " + "b" * 294,
)
PLAIN_CLASSES = ("cat", "cow", "dog", "horse", "person", "sheep")
NAMES = (
    "2008_000123.jpg",
    "<b>bold</b>.png",
    "</script><script>alert(3)</script>.jpg",
    "a\"b'c.jpg",
    "ärzte ☂ 写真.jpg",
    "x" * 300,
)
STAGES = ("supervised", "consistency")
MAPS = ("grad_cam", "guided_backprop", "mask")


def make_run(
    folder: Path, entries: int = 14, seed: int = 0, classes: tuple[str, ...] = CLASSES
) -> Path:
    """Write a complete run folder and return it."""
    random = np.random.default_rng(seed)
    test = [_test_image(random, index, classes) for index in range(160)]
    write_json(folder / "summary.json", _summary(classes, test))
    write_json(folder / "split.json", _split(classes, test))
    write_json(
        folder / "environment.json",
        {"python": "3.11.2", "gpu": None, "packages": {"torch": "2.15.0", "timm": None}},
    )
    write_text(folder / "config.yaml", "data:\n  name: folder  # </pre><script>alert(4)</script>\n")
    _metrics(random, folder / "metrics.jsonl")
    for stage in STAGES:
        columns = ("name", "class", "correct", "iou", "epg", "correlation", "mask_contrast")
        rows = [[item["name"], item["labels"][0], *item[stage]] for item in test]
        write_csv(folder / "localisation" / f"{stage}.csv", columns, rows)
    _gallery(random, folder / "gallery", test[:entries], classes)
    return folder


def edit_json(path: Path, **changes: object) -> None:
    """Replace fields of a record."""
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def _test_image(random: np.random.Generator, index: int, classes: tuple[str, ...]) -> dict:
    name = NAMES[index] if index < len(NAMES) and classes is CLASSES else f"2009_{index:06d}.jpg"
    labels = sorted(random.choice(len(classes), 1 + int(random.random() < 0.3), replace=False))
    before = float(np.clip(random.normal(0.45, 0.25), -0.5, 0.98))
    after = float(np.clip(before + (0.9 - before) * random.uniform(-0.2, 0.8), -0.6, 0.99))
    right = random.random() < 0.62, random.random() < 0.68
    no_boxes = index % 9 == 8
    stages = {
        stage: (
            int(right[at]),
            "" if no_boxes else round(float(random.uniform(8, 70) + 3 * at), 3),
            "" if no_boxes else round(float(random.uniform(20, 80)), 3),
            round((before, after)[at], 4),
            round(float(random.uniform(0.05, 0.2)), 4),
        )
        for at, stage in enumerate(STAGES)
    }
    return {"name": name, "labels": [classes[label] for label in labels], **stages}


def _gain(value: float, spread: float, p: float) -> dict:
    return {"value": value, "low": value - spread, "high": value + spread, "p": p}


def _stage(classes: tuple[str, ...], lift: float, epoch: int) -> dict:
    test = {
        "f1": 61.43 + lift, "f1_tuned": 64.02 + lift / 2, "map": 68.91 + lift,
        "map_weighted": 71.37 + lift, "iou": 31.25 + lift, "iou_reference": 35.5 + lift / 2,
        "epg": 48.12 + lift, "consistency": 0.452 + lift / 20, "mask_contrast": 0.137,
    }  # fmt: skip
    spread = {key: 4.1 if value > 1 else 0.02 for key, value in test.items()}
    return {
        "epoch": epoch, "epochs": 12, "kept": epoch > 0, "seconds": 81.2,
        "validation": {"map": 70.2 + lift, "f1": 60.0},
        "start": {"map": 70.2, "f1": 60.0} if lift else {},
        "thresholds": [0.5] * len(classes),
        "test": test,
        "intervals": {key: [test[key] - spread[key], test[key] + spread[key]] for key in test},
        "per_class": {
            name: {
                "f1": 48.5 + 31 * index % 37 + lift * (index - 2),
                "ap": 55.2 + 17 * index % 29 + lift * (3 - index),
                "count": 12 + 7 * index,
                "intervals": {"f1": [40.5 + index, 88.5], "ap": [50.2, 90.5 + index]},
            }
            for index, name in enumerate(classes)
        },
    }  # fmt: skip


def _summary(classes: tuple[str, ...], test: list[dict]) -> dict:
    gains = {
        "f1": _gain(2.12, 2.6, 0.104), "f1_tuned": _gain(1.06, 2.2, 0.33),
        "map": _gain(2.12, 1.4, 0.004), "map_weighted": _gain(2.12, 1.5, 0.008),
        "iou": _gain(2.12, 1.9, 0.031), "iou_common": _gain(-0.61, 2.0, 0.54),
        "epg": _gain(2.12, 1.3, 0.0), "consistency": _gain(0.106, 0.031, 0.0),
    }  # fmt: skip
    uniform = {
        "gain": {"f1": _gain(1.9, 2.5, 0.15), "map": _gain(1.6, 1.3, 0.02),
                 "iou": _gain(1.4, 1.8, 0.12)},
        "difference": {"f1": _gain(0.22, 1.7, 0.81), "map": _gain(0.52, 0.9, 0.26),
                       "iou": _gain(0.72, 0.7, 0.044)},
    }  # fmt: skip
    calibration = {
        "gain": {"f1": _gain(2.59, 2.1, 0.016)},
        "difference": {"f1": _gain(-0.47, 1.9, 0.62)},
    }
    return {
        "atcon": "0.1.0", "name": "voc-animals N = 4", "seed": 3, "classes": list(classes),
        "multi_label": True, "primary": "map", "level": 0.95, "resamples": 1000,
        "counts": {"train": 4 * len(classes), "validation": 120, "test": len(test), "skipped": 2},
        "model": {"name": "mobilenet_v2", "layer": "features.18.0", "guided": 35},
        "stages": {
            "supervised": _stage(classes, 0.0, 9),
            "consistency": _stage(classes, 2.12, 7),
            "uniform": _stage(classes, 1.6, 5),
        },
        "gain": gains,
        "controls": {"uniform": uniform, "calibration": calibration},
        "floors": {
            "whole_image": {"iou": 29.4, "epg": 38.7},
            "centre_box": {"iou": 34.1, "epg": 52.6},
        },
        "verdict": {
            "outcome": "control_explains",
            "sentence": "Mean average precision rose by 2.1 points, but dimming the whole image "
            "evenly gave nearly as much: the gain cannot be credited to the explanation.",
            "reasons": [
                "mAP +2.1 points (0.7 to 3.5), p = 0.004.",
                "Beyond the uniform mask +0.5 points (−0.4 to 1.4), p = 0.26.",
            ],
        },
        "seconds": {"supervised": 81.2, "consistency": 203.5, "uniform": 199.0,
                    "evaluation": 48.8, "total": 534.1},
    }  # fmt: skip


def _split(classes: tuple[str, ...], test: list[dict]) -> dict:
    train = [
        {"name": f"train_{index}.jpg", "labels": [classes[index % len(classes)]], "sha256": "0"}
        for index in range(4 * len(classes))
    ]
    skipped = [
        {"name": "<i>broken</i>.jpg", "reason": "truncated JPEG: 812 of 40960 bytes"},
        {"name": "cmyk.tif", "reason": "colour space CMYK is not supported"},
    ]
    names = [{"name": item["name"], "labels": item["labels"], "sha256": "0"} for item in test]
    return {
        "seed": 3,
        "per_class": 4,
        "classes": list(classes),
        "train": train,
        "validation": [],
        "test": names,
        "skipped": skipped,
    }


def _metrics(random: np.random.Generator, path: Path) -> None:
    for epoch in range(1, 13):
        rise = 1 - np.exp(-epoch / 4)
        _epoch(path, "supervised", epoch, 0.7 - 0.5 * rise, 48 + 22 * rise + random.normal(0, 0.8))
    for stage, lift, contrast in (("consistency", 2.1, 0.137), ("uniform", 1.6, 0.0)):
        for epoch in range(1, 13):
            rise = 1 - np.exp(-epoch / 5)
            correlation = 0.45 + 0.35 * rise + random.normal(0, 0.01)
            score = 70.2 + lift * np.sin(epoch / 4.5) + random.normal(0, 0.2)
            _epoch(
                path, stage, epoch, -correlation, score,
                correlation=correlation, mask_contrast=contrast * (1 + 0.1 * rise),
                entropy=4.1, between_images=0.21 + 0.04 * rise,
            )  # fmt: skip


def _epoch(path: Path, stage: str, epoch: int, loss: float, score: float, **more: float) -> None:
    record = {"stage": stage, "epoch": epoch, "loss": loss, "seconds": 6.5}
    append_line(path, {**record, "validation": {"map": score, "f1": score - 9}, **more})


def _gallery(
    random: np.random.Generator, folder: Path, test: list[dict], classes: tuple[str, ...]
) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    photographs = load_sample_images().images
    index = []
    for at, item in enumerate(test):
        file = f"{at:03d}.npz"
        arrays, boxes = _maps(random, photographs[at % len(photographs)], item["labels"])
        np.savez_compressed(folder / file, **arrays)
        stages = {stage: _view(random, item, stage, classes) for stage in STAGES}
        if item["supervised"][1] == "":
            boxes = []
        index.append(
            {"name": item["name"], "file": file, "labels": item["labels"], "boxes": boxes,
             "stages": stages}
        )  # fmt: skip
    write_json(
        folder / "index.json", {"maps": list(MAPS), "stages": list(STAGES), "entries": index}
    )


def _view(random: np.random.Generator, item: dict, stage: str, classes: tuple[str, ...]) -> dict:
    correct, iou, _, correlation, contrast = item[stage]
    chances = dict(zip(classes, random.uniform(0.01, 0.6, len(classes)).tolist(), strict=True))
    wrong = [name for name in classes if name not in item["labels"]]
    top = item["labels"][0] if correct else wrong[0]
    chances[top] = float(random.uniform(0.65, 0.98))
    return {
        "top": top, "predicted": [name for name, p in chances.items() if p > 0.5],
        "probabilities": chances, "correct": bool(correct), "correlation": correlation,
        "mask_contrast": contrast, "iou": None if iou == "" else iou,
        "ranges": {"grad_cam": [-0.213, 1.87], "guided_backprop": [0.0, 0.042],
                   "mask": [0.21, 0.93]},
    }  # fmt: skip


def _maps(random: np.random.Generator, photograph: np.ndarray, labels: list[str]) -> tuple:
    height, width = (256, 192) if random.random() < 0.3 else (192, 256)
    top = random.integers(photograph.shape[0] - height)
    left = random.integers(photograph.shape[1] - width)
    image = photograph[top : top + height, left : left + width]
    arrays = {"image": image}
    y, x = np.mgrid[0 : 1 : complex(height), 0 : 1 : complex(width)]
    centre = random.uniform(0.3, 0.7, 2)
    edges = np.abs(np.gradient(image.mean(axis=2))).sum(axis=0)
    for stage in STAGES:
        spread = 0.12 if stage == "supervised" else 0.06
        heat = np.exp(-((y - centre[0]) ** 2 + (x - centre[1]) ** 2) / spread)
        arrays[f"{stage}_grad_cam"] = _bytes(heat[:: height // 8, :: width // 8])
        arrays[f"{stage}_guided_backprop"] = _bytes(edges * heat**2)
        arrays[f"{stage}_mask"] = _bytes(heat)
    box = np.clip([centre[1] - 0.25, centre[0] - 0.25, centre[1] + 0.25, centre[0] + 0.25], 0, 1)
    sides = ("left", "top", "right", "bottom")
    first = {"label": labels[0], **dict(zip(sides, box.round(4).tolist(), strict=True))}
    return arrays, [first]


def _bytes(values: np.ndarray) -> np.ndarray:
    span = values.max() - values.min()
    return ((values - values.min()) / span * 255).round().astype(np.uint8)
