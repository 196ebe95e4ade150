"""The same run over several seeds: what one training run cannot tell."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from atcon import records
from atcon.evaluation import paired_over_seeds
from atcon.experiments.config import dump_config, load_config
from atcon.experiments.folder import RunFolder
from atcon.experiments.progress import Progress
from atcon.experiments.run import run
from atcon.experiments.summary import HEADLINE

METRICS = {
    "f1": "F1",
    "f1_tuned": "F1, thresholds of the validation set",
    "map": "mAP",
    "map_weighted": "mAP, weighted by support",
    "iou": "IoU",
    "iou_reference": "IoU, the code's rule",
    "epg": "energy inside the boxes",
    "pointing": "peak inside the boxes",
    "max_box_acc": "MaxBoxAccV2",
    "consistency": "consistency of the maps",
    "mask_contrast": "standard deviation of the mask",
}
DIFFERENCES = {
    "gain": ("consistency", "supervised"),
    "uniform_gain": ("uniform", "supervised"),
    "above_uniform": ("consistency", "uniform"),
}


def repeat(
    source: str,
    seeds: Sequence[int],
    out: Path,
    overrides: Iterable[str] = (),
    *,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Run a configuration once per seed into `out/seed-K`, and compare over the seeds.

    A seed whose run is finished is not run again, one that was cut short is continued.

    Returns:
        The content of `out/seeds.json`; the table is in `out/seeds.md`.

    Raises:
        InputError: As for `run`, or a finished seed is of another configuration.
    """
    progress = progress or Progress()
    summaries = {}
    for seed in seeds:
        folder = out / f"seed-{seed}"
        config = load_config(source, [*overrides, f"seed={seed}"])
        if (folder / "summary.json").exists():
            RunFolder(folder).check_configuration(dump_config(config))
            progress.note(f"seed {seed}: finished already")
            summaries[seed] = records.read_json(folder / "summary.json")
        else:
            progress.note(f"seed {seed}")
            resume = (folder / "config.yaml").exists()
            summaries[seed] = run(config, folder, resume=resume, progress=progress)
    record = compare_seeds(summaries)
    records.write_json(out / "seeds.json", record)
    records.write_text(out / "seeds.md", table(record))
    return record


def compare_seeds(
    summaries: Mapping[int, Mapping[str, Any]], level: float = 0.95
) -> dict[str, Any]:
    """Means over seeds of every stage, and paired differences with Student-t intervals.

    Metrics that a summary lacks, since it is of an older version, are left out.
    """
    runs = list(summaries.values())
    stages = list(runs[0]["stages"])
    known = [m for m in METRICS if all(m in one["stages"]["supervised"]["test"] for one in runs)]
    values = {
        stage: {metric: [one["stages"][stage]["test"][metric] for one in runs] for metric in known}
        for stage in stages
    }
    record: dict[str, Any] = {
        "name": runs[0]["name"],
        "unit": runs[0].get("unit", "images"),
        "seeds": list(summaries),
        "level": level,
        "kept": {stage: [one["stages"][stage]["epoch"] for one in runs] for stage in stages},
        "values": values,
        "seconds": [one["seconds"]["total"] for one in runs],
        "by_seed": {
            str(seed): {
                "gain": {metric: one["gain"][metric] for metric in HEADLINE},
                "above_uniform": one["controls"].get("uniform", {}).get("difference", {}),
            }
            for seed, one in summaries.items()
        },
        "differences": {},
    }
    for name, (after, before) in DIFFERENCES.items():
        if after in values:
            record["differences"][name] = {
                metric: _paired(values[after][metric], values[before][metric], level)
                for metric in known
            }
    start = values["supervised"]
    record["differences"]["calibration_gain"] = {
        "f1": _paired(start["f1_tuned"], start["f1"], level)
    }
    record["differences"]["above_calibration"] = {
        "f1": _paired(values["consistency"]["f1"], start["f1_tuned"], level)
    }
    return record


def table(record: Mapping[str, Any]) -> str:
    """The comparison as Markdown: means, and differences with their intervals over seeds."""
    stages = list(record["values"])
    names = [name for name in DIFFERENCES if name in record["differences"]]
    titles = {
        "gain": "consistency − supervised",
        "uniform_gain": "uniform − supervised",
        "above_uniform": "consistency − uniform",
    }
    lines = [
        "| test metric | " + " | ".join([*stages, *(titles[name] for name in names)]) + " |",
        "|---" * (1 + len(stages) + len(names)) + "|",
    ]
    for metric in record["values"][stages[0]]:
        digits = 3 if metric in {"consistency", "mask_contrast"} else 1
        means = [_mean(record["values"][stage][metric], digits) for stage in stages]
        changes = [_say(record["differences"][name][metric], digits) for name in names]
        lines.append("| " + " | ".join([METRICS[metric], *means, *changes]) + " |")
    calibrated, beyond = (
        _say(record["differences"][name]["f1"], 1)
        for name in ("calibration_gain", "above_calibration")
    )
    epochs = "; ".join(
        f"{stage} {', '.join(map(str, kept))}" for stage, kept in record["kept"].items()
    )
    calibration = (
        f"Calibration only (supervised model, thresholds of the validation set): F1 {calibrated}. "
        f"Consistency minus calibration only: F1 {beyond}."
    )
    lines += ["", calibration, "", f"Epoch kept, by seed (0: the start): {epochs}.", ""]
    return "\n".join([*lines, *_seed_rows(record)]) + "\n"


def _seed_rows(record: Mapping[str, Any]) -> list[str]:
    """Each seed's own gain, with the intervals over its test samples."""
    columns = [METRICS[metric] for metric in HEADLINE]
    lines = [
        f"| seed, intervals over test {record.get('unit', 'images')} | "
        + " | ".join([*columns, *(f"{column}, consistency − uniform" for column in columns)])
        + " |",
        "|---" * (1 + 2 * len(columns)) + "|",
    ]
    for seed, own in record["by_seed"].items():
        cells = [
            _say(own[part].get(metric), 1)
            for part in ("gain", "above_uniform")
            for metric in HEADLINE
        ]
        lines.append("| " + " | ".join([seed, *cells]) + " |")
    return lines


def _paired(
    after: Sequence[float | None], before: Sequence[float | None], level: float
) -> dict[str, float] | None:
    pairs = [(a, b) for a, b in zip(after, before, strict=True) if a is not None and b is not None]
    if len(pairs) < 2:
        return None
    gain = paired_over_seeds([a - b for a, b in pairs], level=level)
    return {"value": gain.value, "low": gain.low, "high": gain.high, "p": gain.p}


def _mean(values: Sequence[float | None], digits: int) -> str:
    known = [value for value in values if value is not None]
    return f"{sum(known) / len(known):.{digits}f}" if known else "–"


def _say(gain: Mapping[str, float] | None, digits: int) -> str:
    if gain is None:
        return "–"
    low, high = (f"{gain[key]:+.{digits}f}" for key in ("low", "high"))
    return f"{gain['value']:+.{digits}f} ({low} to {high}), p = {gain['p']:.3f}"
