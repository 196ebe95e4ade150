"""Strategies and baselines as arms of one run."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from pipeline import atcon, content_of, folder_config, make_folder, sets, tiny, without_seconds
from sklearn.metrics import average_precision_score

from atcon.data import Reader, Split, load
from atcon.errors import InputError
from atcon.experiments import run as pipeline_run
from atcon.experiments import stages
from atcon.experiments.arms import BASELINES, arms_of
from atcon.experiments.bench import inputs_of, probabilities_of
from atcon.experiments.config import load_config
from atcon.experiments.folder import RunFolder
from atcon.experiments.judge import judge
from atcon.experiments.run import run
from atcon.experiments.sections import every_of
from atcon.experiments.setup import fabric_of, size_of, stage_network
from atcon.experiments.sources import image_set_of, network_of
from atcon.experiments.stages import DEFAULT_RULE
from atcon.models.weights import read_weights
from atcon.records import read_csv, read_json, read_lines
from atcon.report import write_report

SMALL = (
    "data.test_images=16",
    "supervised.epochs=1",
    "consistency.epochs=1",
    "evaluation.gallery=1",
    "simclr.epochs=1",
    "laso.epochs=1",
    "laso.hidden=16",
    "laso.hidden_subtraction=16",
    "laso.classifier_epochs=2",
    "fixmatch.epochs=1",
)
ALL = f"baselines=[{', '.join(BASELINES)}]"


@pytest.fixture(scope="module")
def every_arm(tmp_path_factory):
    folder = tmp_path_factory.mktemp("arms") / "run"
    return folder, run(tiny(*SMALL, ALL), folder)


def test_every_baseline_is_trained_judged_and_compared(every_arm):
    folder, summary = every_arm
    assert list(summary["arms"]) == list(BASELINES)
    assert set(summary["stages"]) == {"supervised", "consistency", "uniform", *BASELINES}
    for name, arm in summary["arms"].items():
        assert arm["title"] == BASELINES[name].title
        for metric in ("f1", "f1_tuned", "map"):
            after = summary["stages"][name]["test"][metric]
            before = summary["stages"]["supervised"]["test"][metric]
            ours = summary["stages"]["consistency"]["test"][metric]
            assert arm["gain"][metric]["value"] == pytest.approx(after - before, abs=2e-3)
            assert arm["difference"][metric]["value"] == pytest.approx(ours - after, abs=2e-3)
        assert (folder / "predictions" / f"{name}.csv").is_file()
    assert "simclr_pretraining" in summary["seconds"]


def test_the_report_names_every_alternative(every_arm):
    folder, _ = every_arm
    page = write_report(folder).read_text(encoding="utf-8")
    assert "Is another method as good?" in page
    for arm in BASELINES.values():
        assert arm.title in page


def test_the_same_fine_tuning_as_an_arm_gives_the_same_network(every_arm):
    folder, _ = every_arm
    ours, again = (
        read_weights(folder / "checkpoints" / f"{name}.safetensors")
        for name in ("consistency", "fine_tuning")
    )
    assert all(torch.equal(ours[name], again[name]) for name in ours)


def test_a_linear_probe_and_laso_train_the_head_alone(every_arm):
    folder, summary = every_arm
    pretrained = network_of(tiny(*SMALL), len(summary["classes"]))
    supervised = read_weights(folder / "checkpoints" / "supervised.safetensors")
    starts = {"laso": supervised, "linear_probe": pretrained.module.state_dict()}
    for name, before in starts.items():
        after = read_weights(folder / "checkpoints" / f"{name}.safetensors")
        changed = {key for key in after if not torch.equal(after[key], before[key])}
        assert changed == {f"{pretrained.head}.weight", f"{pretrained.head}.bias"}


def test_what_is_recorded_of_laso_is_the_validation_of_its_own_classifier(every_arm):
    folder, summary = every_arm
    config, name = tiny(*SMALL), "laso"
    opened = RunFolder(folder)
    fabric, record = fabric_of(config), read_json(folder / "split.json")
    image_set = image_set_of(config.data)
    network = stage_network(config, opened, len(image_set.classes), name, fabric)
    split = Split.from_record(record, image_set)
    images = load(Reader(image_set, size_of(config, network)), split.validation)
    scores = probabilities_of(network, images.pixels, multi_label=True, fabric=fabric)
    found = 100 * average_precision_score(images.labels.numpy(), scores)
    assert summary["stages"][name]["validation"]["map"] == pytest.approx(found, abs=1e-6)
    lines = [line for line in read_lines(folder / "metrics.jsonl") if line["stage"] == name]
    assert [line["validation"] for line in lines] == [{}]


def test_the_probe_sees_images_of_every_class(monkeypatch, tmp_path, own_images):
    monkeypatch.setattr(stages, "PROBE_IMAGES", 6)
    seen = []

    class Remembered(stages.Probe):
        def __init__(self, start, images, **options):
            seen.append(images)
            super().__init__(start, images, **options)

    monkeypatch.setattr(stages, "Probe", Remembered)
    source = str(folder_config(tmp_path / "own.yaml", own_images))
    config = load_config(
        source,
        [
            "data.validation_images=0",
            "data.per_class=6",
            "data.test_images=4",
            "supervised.epochs=1",
            "consistency.epochs=1",
            "controls.uniform=false",
        ],
    )
    run(config, tmp_path / "run")
    image_set = image_set_of(config.data)
    split = Split.from_record(read_json(tmp_path / "run" / "split.json"), image_set)
    network = network_of(config, len(image_set.classes))
    train = load(Reader(image_set, size_of(config, network)), split.train)
    every = inputs_of(train.pixels, network, torch.device("cpu"))
    rows = [int((every - image).abs().flatten(1).amax(dim=1).argmin()) for image in seen[0]]
    assert len(set(rows)) == 6
    assert bool(train.labels[rows].any(dim=0).all())


def test_two_views_of_an_image_are_one_group(tmp_path, monkeypatch):
    original, batches = BASELINES["fixmatch"], []

    def remember(bench):
        plan = original.plan(bench)
        batches.extend(batch for _, batch in plan.schedule(1))
        return plan

    monkeypatch.setitem(BASELINES, "fixmatch", replace(original, plan=remember))
    run(tiny(*SMALL, "baselines=[fixmatch]"), tmp_path / "run")
    names = [name for batch in batches for name in batch.names]
    groups = [group for batch in batches for group in batch.groups.tolist()]
    assert len(set(groups)) == len(set(names)) == len(names) == 10


@pytest.mark.slow
@pytest.mark.parametrize("strategy", ["combined", "alternated"])
def test_a_strategy_is_resumed_bit_for_bit(tmp_path, strategy, monkeypatch):
    config = tiny(
        *SMALL, f"strategy={strategy}", "supervised.epochs=2", "supervised.average=0.9",
        "supervised.rate=cosine", "supervised.validate_every=2 batches",
        "consistency.teacher=0.9", "consistency.mask_strength=[0.5, 1]",
        "consistency.mask_noise=0.5", "consistency.mask_anneal=0.5",
        "consistency.unlabelled_root=pool", "consistency.unlabelled_images=6",
    )  # fmt: skip
    whole = run(config, tmp_path / "whole")
    calls = {"left": 5}

    def stop(observer, record):
        calls["left"] -= 1
        if calls["left"] == 0:
            raise KeyboardInterrupt
        return original(observer, record)

    original = stages._Observer.epoch
    monkeypatch.setattr(stages._Observer, "epoch", stop)
    with pytest.raises(KeyboardInterrupt):
        run(config, tmp_path / "cut")
    monkeypatch.setattr(stages._Observer, "epoch", original)
    again = run(config, tmp_path / "cut", resume=True)
    assert without_seconds(again) == without_seconds(whole)
    kept = [content_of(tmp_path / name / "checkpoints") for name in ("whole", "cut")]
    weights = [{k: v for k, v in one.items() if k.endswith("safetensors")} for one in kept]
    assert weights[0] == weights[1]


def test_without_validation_labels_a_rule_stops_and_nothing_is_calibrated(tmp_path):
    config = tiny(*SMALL, "data.validation_images=0", "consistency.epochs=3")
    summary = run(config, tmp_path / "run")
    assert summary["counts"]["validation"] == 0
    assert "calibration" not in summary["controls"]
    assert summary["stages"]["consistency"]["selected_by"] == DEFAULT_RULE
    assert summary["stages"]["supervised"]["epoch"] == 1
    lines = read_lines(tmp_path / "run" / "metrics.jsonl")
    seen = next(line for line in lines if line["stage"] == "consistency")["validation"]
    assert {"drift", "view_agreement", "map_fidelity"} <= set(seen)
    assert "map" not in seen
    assert summary["stages"]["supervised"]["selected_by"] == "last"
    page = write_report(tmp_path / "run").read_text(encoding="utf-8")
    assert "best validation mAP" not in page
    assert f"kept by the stopping rule {DEFAULT_RULE}, without labels" in page


def test_a_rule_that_keeps_the_start_is_not_said_to_have_looked_at_validation(tmp_path):
    summary = run(tiny(*SMALL, "consistency.stopping=start"), tmp_path / "run")
    assert summary["verdict"]["outcome"] == "not_kept"
    assert "validation" not in summary["verdict"]["sentence"]
    assert "the stopping rule start" in summary["verdict"]["sentence"]


def test_the_last_epoch_is_kept_though_every_epoch_was_validated(tmp_path):
    settings = (*SMALL, "consistency.stopping=last", "consistency.epochs=2", "simclr.epochs=1")
    run(tiny(*settings, "baselines=[simclr]", "controls.uniform=false"), tmp_path / "run")
    seen = {}
    for line in read_lines(tmp_path / "run" / "metrics.jsonl"):
        seen.setdefault(line["stage"], []).append(set(line["validation"]))
    assert seen["consistency"] == [{"map", "f1"}] * 2
    assert seen["simclr_pretraining"] == [set()]
    record = read_json(tmp_path / "run" / "checkpoints" / "consistency.json")
    assert (record["epoch"], record["selected_by"]) == (2, "last")


def test_a_kept_start_is_judged_once_and_recorded_as_its_start(tmp_path, monkeypatch):
    asked = []

    def heard(config, image_set, examples, networks, **more):
        asked.append(list(networks))
        return judge(config, image_set, examples, networks, **more)

    monkeypatch.setattr(pipeline_run, "judge", heard)
    summary = run(tiny(*SMALL, "consistency.stopping=start"), tmp_path / "run")
    assert asked == [["supervised"]]
    assert list(summary["stages"]) == ["supervised", "consistency", "uniform"]
    for table in ("predictions", "localisation"):
        texts = {path.name: path.read_bytes() for path in (tmp_path / "run" / table).iterdir()}
        assert len(texts) == 3
        assert len(set(texts.values())) == 1
    (path,) = (tmp_path / "run" / "gallery").glob("*.npz")
    with np.load(path) as pictures:
        for name in ("grad_cam", "guided_backprop", "mask"):
            before, after = (pictures[f"{stage}_{name}"] for stage in ("supervised", "consistency"))
            assert np.array_equal(before, after)
    start, ours = (summary["stages"][stage] for stage in ("supervised", "consistency"))
    assert ours["thresholds"] == start["thresholds"]
    assert ours["test"] == start["test"]


@pytest.mark.slow
def test_frozen_normalisation_is_bitwise_unchanged_after_training(tmp_path):
    config = tiny(*SMALL, "strategy=combined", "supervised.epochs=2")
    run(config, tmp_path / "run")
    after = read_weights(tmp_path / "run" / "checkpoints" / "consistency.safetensors")
    before = network_of(config, 5).module.state_dict()
    buffers = [key for key in after if key.endswith(("running_mean", "running_var"))]
    assert buffers
    assert all(torch.equal(after[key], before[key]) for key in buffers)


@pytest.mark.slow
def test_development_images_are_judged_in_place_of_the_test_images(tmp_path):
    summary = run(tiny(*SMALL, "data.judged=development"), tmp_path / "run")
    assert summary["judged"] == "development"
    split = read_json(tmp_path / "run" / "split.json")
    test = run(tiny(*SMALL), tmp_path / "other") and read_json(tmp_path / "other" / "split.json")
    names = {part: {e["name"] for e in split[part]} for part in ("train", "validation", "test")}
    assert not names["test"] & (names["train"] | names["validation"])
    assert not names["test"] & {entry["name"] for entry in test["test"]}
    assert len(names["test"]) == 16


def test_consistency_may_have_images_of_its_own(tmp_path):
    extra = make_folder(tmp_path / "extra", per_class=2)
    config = tiny(*SMALL, f"consistency.unlabelled_root={extra}", "baselines=[continued]")
    summary = run(config, tmp_path / "run")
    record = read_json(tmp_path / "run" / "split.json")
    assert summary["counts"]["unlabelled"] == len(record["unlabelled"]) == 6
    steps = {name: summary["stages"][name]["steps"] for name in ("consistency", "continued")}
    assert steps["consistency"] == steps["continued"] == 4
    with pytest.raises(InputError, match="unlabelled_images: 7 are asked for"):
        run(
            tiny(
                *SMALL,
                f"consistency.unlabelled_root={extra}",
                "consistency.unlabelled_images=7",
            ),
            tmp_path / "more",
        )


def test_consistency_can_be_measured_on_a_part_of_the_test_images(tmp_path):
    summary = run(tiny(*SMALL, "evaluation.consistency_images=5"), tmp_path / "run")
    rows = read_csv(tmp_path / "run" / "localisation" / "supervised.csv")
    assert sum(row["correlation"] != "" for row in rows) == 5
    whole = run(tiny(*SMALL), tmp_path / "whole")
    for metric in ("f1", "map", "iou"):
        part, all_of = (one["stages"]["supervised"]["test"][metric] for one in (summary, whole))
        assert part == pytest.approx(all_of, abs=1e-2)


def test_an_arm_comes_after_the_one_it_starts_from():
    order = list(arms_of(tiny("baselines=[simclr_ours]")))
    assert order.index("simclr_pretraining") < order.index("simclr") < order.index("simclr_ours")
    assert not arms_of(tiny("baselines=[simclr_ours]"))["simclr"].judged


@pytest.mark.parametrize(
    ("text", "found"),
    [("2 epochs", (2, "epoch")), ("10 batches", (10, "batch")), ("1 batch", (1, "batch"))],
)
def test_how_often_is_read_from_words(text, found):
    assert every_of(text) == found


@pytest.mark.parametrize(
    ("override", "says"),
    [
        ("supervised.validate_every=often", "'10 batches'"),
        ("strategy=fine_tunning", "did you mean 'fine_tuning'"),
        ("baselines=[simclear]", "did you mean 'simclr'"),
        ("consistency.stopping=drift", "did you mean 'drift_budget'"),
    ],
)
def test_a_wrong_word_is_named_with_the_nearest(override, says):
    with pytest.raises(InputError, match=says):
        tiny(override)


def test_the_command_takes_settings_without_a_flag(tmp_path):
    out = atcon(
        "run", "digits", "strategy=combined", *sets(*SMALL), "--quiet", "--out", tmp_path / "r"
    )
    assert out.code == 0, out.err
    assert read_json(tmp_path / "r" / "summary.json")["strategy"] == "combined"
