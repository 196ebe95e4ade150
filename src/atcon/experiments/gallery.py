"""The pictures of a run: test images drawn at random, with their maps in bytes."""

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from atcon import records
from atcon.attention import attention_named
from atcon.evaluation import predict
from atcon.experiments.judge import MAPS, MASK, Judged, Verdicts
from atcon.types import Example

STAGES = ("supervised", "consistency")


def draw_pictured(examples: Sequence[Example], count: int, seed: int) -> frozenset[str]:
    """Draw the images of the gallery at random: a chosen gallery shows what one wants to see."""
    generator = np.random.default_rng([seed, 3])
    chosen = generator.permutation(len(examples))[:count]
    return frozenset(examples[index].name for index in chosen)


def rate_record(known: Mapping[str, Any]) -> dict[str, float]:
    """Give the frames per second of a run's clips, for their entries; nothing of images."""
    return {"rate": known["clip"]["rate"]} if known.get("clip") else {}


def write_gallery(
    folder: Path,
    verdicts: Verdicts,
    classes: Sequence[str],
    *,
    multi_label: bool,
    rate: float | None = None,
) -> None:
    """Write one `.npz` per pictured image, or clip of so many frames per second, and the index."""
    predicted = {
        stage: predict(verdicts.stages[stage].probabilities, multi_label=multi_label)
        for stage in STAGES
    }
    entries: list[dict[str, Any]] = []
    for row, example in enumerate(verdicts.examples):
        if example.name not in verdicts.pictures:
            continue
        file = f"{len(entries):04d}.npz"
        picture = verdicts.pictures[example.name]
        arrays = {"image": picture["image"]}
        stages = {}
        for stage in STAGES:
            maps = {name: picture[f"{stage}_{name}"] for name in MAPS}
            chosen = predicted[stage][row]
            stages[stage] = {
                **_said(verdicts.stages[stage], row, classes, example),
                "predicted": [name for name, on in zip(classes, chosen, strict=True) if on],
                "ranges": put_maps(arrays, stage, maps),
            }
        write_arrays(folder / file, arrays)
        entries.append(
            {
                "name": example.name,
                "file": file,
                "labels": [classes[label] for label in example.labels],
                "boxes": [{**box._asdict(), "label": classes[box.label]} for box in example.boxes],
                "stages": stages,
                **({} if rate is None else {"rate": rate}),
            }
        )
    write_index(folder, MAPS, STAGES, entries)


def write_index(
    folder: Path, maps: Sequence[str], stages: Sequence[str], entries: list[dict[str, Any]]
) -> None:
    """Write `index.json`, with what the report must know of the maps to draw them."""
    about = {name: _about(name) for name in maps}
    content = {"maps": list(maps), "about": about, "stages": list(stages), "entries": entries}
    records.write_json(folder / "index.json", content)


def _about(name: str) -> dict[str, Any]:
    """Give a map's title, whether it is signed, and whether every pixel has its own value.

    The maps that are made of masked passes are smooth, although they have the input's resolution.
    """
    if name == MASK:
        return {"title": "Seen through the mask", "signed": False, "fine": False}
    attention = attention_named(name)
    fine = attention.resolution == "input" and attention.differentiable
    return {"title": attention.title, "signed": attention.signed, "fine": fine}


def put_maps(
    arrays: dict[str, np.ndarray], stage: str, maps: Mapping[str, np.ndarray]
) -> dict[str, list[float]]:
    """Put a stage's maps among the arrays as bytes, and give the range of each."""
    ranges = {}
    for name, values in maps.items():
        arrays[f"{stage}_{name}"], ranges[name] = _to_bytes(values)
    return ranges


def _said(judged: Judged, row: int, classes: Sequence[str], example: Example) -> dict[str, Any]:
    top = int(judged.top[row])
    place = judged.places[row]
    return {
        "top": classes[top],
        "correct": top in example.labels,
        "probabilities": {
            label: round(float(p), 4)
            for label, p in zip(classes, judged.probabilities[row], strict=True)
        },
        "correlation": round(float(judged.correlation[row]), 4),
        "mask_contrast": defined(judged.contrast[row]),
        "iou": None if place is None else round(100 * place.iou, 2),
    }


def defined(value: float) -> float | None:
    """Round for the index; None for what is not defined."""
    return None if np.isnan(value) else round(float(value), 5)


def _to_bytes(values: np.ndarray) -> tuple[np.ndarray, list[float]]:
    """Scale a map to 0..255, linear between its ends, which are given back."""
    low, high = float(values.min()), float(values.max())
    span = high - low if high > low else 1.0
    return np.round(255 * (values - low) / span).astype(np.uint8), [low, high]


def write_arrays(path: Path, arrays: dict[str, np.ndarray]) -> None:
    """Write a compressed `.npz` atomically."""
    content = io.BytesIO()
    np.savez_compressed(content, allow_pickle=False, **arrays)
    with records.whole_file(path) as part:
        part.write_bytes(content.getvalue())
