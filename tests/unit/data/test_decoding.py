"""The frame at a time is the one that a viewer would see, however the recording was made."""

from pathlib import Path

import numpy as np
import pytest
import torch
from videos import make_video, number_of, numbers, picture

from atcon.data.decoding import Recording, read_video
from atcon.errors import BadVideoError, InputError

RATE = 25


@pytest.fixture(scope="session")
def recording(tmp_path_factory) -> Path:
    """Twelve seconds at 25 frames per second, a key frame every second, B-frames."""
    return make_video(tmp_path_factory.mktemp("videos") / "clean.mp4")


def sampled(start: float, count: int = 16, rate: float = 4.0) -> list[float]:
    return [start + k / rate for k in range(count)]


def expected(times, rate=RATE) -> list[int]:
    return [int(time * rate + 1e-6) for time in times]


def reason_of(path: Path, times, **options) -> str:
    with pytest.raises(BadVideoError) as caught:
        read_video(path, times, **options)
    assert str(path) in str(caught.value)
    return caught.value.reason


def test_numbers_are_read_from_pictures():
    for number in (0, 1, 299, 4095):
        assert number_of(torch.from_numpy(picture(number)).permute(2, 0, 1)) == number


@pytest.mark.parametrize("start", [0.0, 0.019, 3.96, 4.0, 7.25, 8.2])
def test_a_frame_is_the_last_one_that_is_not_after_its_time(recording, start):
    clip = read_video(recording, sampled(start), size=80)
    assert clip.dtype == torch.uint8
    assert clip.shape == (3, 16, 80, 80)
    assert numbers(clip) == expected(sampled(start))


def test_frames_keep_their_size_unless_another_is_asked_for(recording):
    assert read_video(recording, [1.0]).shape == (3, 1, 64, 96)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("open.mkv", {"options": {"x264-params": "open-gop=1:bframes=3:keyint=25"}}),
        ("one_group.mp4", {"gop": 1000}),
        ("mpeg4.avi", {"codec": "mpeg4"}),
        ("mpeg2.ts", {"codec": "mpeg2video", "options": {"bf": "2"}}),
        ("late.ts", {"start": 100.0}),
        ("late.mkv", {"start": 7.3}),
        ("lossless.mkv", {"codec": "ffv1"}),
    ],
)
def test_seeking_gives_the_frames_that_reading_from_the_start_gives(tmp_path, name, options):
    path = make_video(tmp_path / name, **options)
    orders = [(8.0, 1.0, 10.9, 4.52, 0.0), (0.0, 1.0, 4.52, 8.0, 10.9)]
    found = []
    for order in orders:
        with Recording(path) as opened:
            found.append({start: opened.frames(sampled(start, 4)) for start in order})
    for start in orders[0]:
        assert numbers(found[0][start]) == expected(sampled(start, 4))
        assert torch.equal(found[0][start], found[1][start])


def test_a_varying_rate_is_resampled_by_time_stamps(tmp_path):
    steps = np.random.default_rng(0).uniform(0.015, 0.2, 150)
    times = np.concatenate([[0.0], np.cumsum(np.round(steps, 3))])
    path = make_video(tmp_path / "varying.mkv", times=times)
    wanted = sampled(0.5, 40)
    index = np.searchsorted(times, np.array(wanted) + 1e-6, side="right") - 1
    assert numbers(read_video(path, wanted)) == index.tolist()


def test_a_recording_of_a_low_constant_rate_shows_a_frame_twice(tmp_path):
    path = make_video(tmp_path / "slow.mp4", rate=2)
    assert numbers(read_video(path, sampled(1.0, 6))) == [2, 2, 3, 3, 4, 4]


def test_a_rotated_recording_is_seen_upright(tmp_path):
    plain = make_video(tmp_path / "plain.mp4", 1)
    turned = make_video(tmp_path / "turned.mp4", 1, rotation=90)
    one, two = read_video(plain, [0.2]), read_video(turned, [0.2])
    assert torch.equal(torch.rot90(one, 1, (2, 3)), two)


@pytest.mark.parametrize("times", [[], [1.0, 0.5]])
def test_times_must_ascend(recording, times):
    with pytest.raises(InputError, match="ascending"):
        read_video(recording, times)


def test_there_is_no_frame_after_the_last_and_none_before_the_first(recording):
    assert numbers(read_video(recording, [11.97, 11.999])) == [299, 299]
    assert reason_of(recording, [11.9, 12.1]) == "outside"
    assert reason_of(recording, [-0.5]) == "gap"
