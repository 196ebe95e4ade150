import json
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from atcon.errors import InputError
from atcon.report import write_films, write_sheets
from atcon.report.films import GAP, SIDE
from atcon.report.gallery import render
from atcon.report.maps import STRIP, STRIP_COLUMNS, Kind, image_of, paint, strip

GRAD_CAM = Kind("grad_cam", "Grad-CAM", signed=True)
GUIDED = Kind("guided_backprop", "Guided Backpropagation", fine=True)
MASK = Kind("mask", "Seen through the mask")
FRAMES, HEIGHT, WIDTH = 16, 24, 32


@pytest.fixture
def clip() -> np.ndarray:
    """A clip in which frame k has the brightness 15 k."""
    frames = np.arange(FRAMES, dtype=np.uint8)[:, None, None, None] * 15
    return np.broadcast_to(frames, (FRAMES, HEIGHT, WIDTH, 3)).copy()


def test_a_strip_shows_frames_evenly_spaced_in_reading_order(clip):
    sheet = strip(clip)
    assert sheet.shape == (2 * HEIGHT + 1, 4 * WIDTH + 3, 3)
    shown = [
        int(sheet[line * (HEIGHT + 1), column * (WIDTH + 1), 0]) // 15
        for line in range(STRIP // STRIP_COLUMNS)
        for column in range(STRIP_COLUMNS)
    ]
    assert shown == [0, 2, 4, 6, 9, 11, 13, 15]
    assert strip(clip[:3]).shape == (HEIGHT, 3 * WIDTH + 2, 3)
    assert (strip(clip[0]) == clip[0]).all()


@pytest.mark.parametrize("kind", [GRAD_CAM, GUIDED, MASK], ids=lambda kind: kind.name)
def test_a_frame_of_a_clip_is_painted_like_an_image_where_the_map_has_its_frames(clip, kind):
    generator = np.random.default_rng(0)
    cells = (HEIGHT, WIDTH) if kind is not GRAD_CAM else (3, 4)
    maps = generator.integers(0, 256, (FRAMES, *cells), dtype=np.uint8)
    maps[:, 0, :2] = [0, 255]  # every frame has the same ends
    drawn, shown = paint(kind, clip, maps, (-1.0, 2.0))
    assert drawn.shape == clip.shape
    if kind is GUIDED:  # its largest 1 % are clipped, over the whole clip
        return
    for frame in range(FRAMES):
        alone, ends = paint(kind, clip[frame], maps[frame], (-1.0, 2.0))
        assert ends == shown
        np.testing.assert_array_equal(drawn[frame], alone)


def test_a_map_of_fewer_cells_in_time_is_interpolated_between_their_middles(clip):
    maps = np.zeros((2, 3, 4), np.uint8)
    maps[1] = 255
    drawn, _ = paint(MASK, np.full_like(clip, 200), maps, (0.0, 1.0))
    share = (drawn[:, 0, 0, 0].astype(float) - 124) / (200 - 124)  # 124: where a mask of 0 leads
    expected = np.clip((np.arange(FRAMES) + 0.5) * 2 / FRAMES - 0.5, 0, 1)
    np.testing.assert_allclose(share, expected, atol=0.01)


def test_one_scale_holds_for_all_frames_of_a_clip(clip):
    maps = np.zeros((FRAMES, HEIGHT, WIDTH), np.uint8)
    maps[3] = 255
    drawn, _ = paint(GUIDED, clip, maps, (0.0, 1.0))
    brightness = drawn.reshape(FRAMES, -1).mean(axis=1)
    assert brightness.argmax() == 3
    assert np.ptp(np.delete(brightness, 3)) == 0


def test_the_picture_of_a_clip_in_the_report_is_a_strip(clip):
    maps = np.zeros((2, 3, 4), np.uint8)
    picture = render(GRAD_CAM, clip, maps, (-1.0, 1.0), "supervised, test clip one")
    assert picture.width > 2 * picture.height
    assert picture.alt == "Grad-CAM supervised, test clip one"


@pytest.fixture
def folder(clip, tmp_path: Path) -> Path:
    """What `atcon attend` writes of one clip."""
    stage = {
        "top": "covid",
        "explained": "covid",
        "predicted": ["covid"],
        "probabilities": {"covid": 0.75, "regular": 0.25},
        "correct": None,
        "correlation": 0.5,
        "mask_contrast": 0.1,
        "iou": None,
        "ranges": {"grad_cam": [-1.0, 1.0]},
    }
    entry = {
        "name": "lung.mp4",
        "file": "0000.npz",
        "labels": [],
        "boxes": [],
        "rate": 8.0,
        "stages": {"supervised": stage, "consistency": stage},
    }
    index = {
        "format": 1,
        "maps": ["grad_cam"],
        "about": {"grad_cam": {"title": "Grad-CAM", "signed": True, "fine": False}},
        "stages": ["supervised", "consistency"],
        "entries": [entry],
    }
    maps = np.full((2, 3, 4), 128, np.uint8)
    np.savez(tmp_path / "0000.npz", image=clip, supervised_grad_cam=maps, consistency_grad_cam=maps)
    (tmp_path / "index.json").write_text(json.dumps(index))
    return tmp_path


def test_a_film_shows_every_frame_beside_its_map_at_the_rate_of_the_clip(folder):
    films = write_films(folder)
    assert [film.name for film in films] == ["0000-supervised.mp4", "0000-consistency.mp4"]
    with av.open(str(films[0])) as container:
        stream = container.streams.video[0]
        assert (stream.codec_context.name, stream.average_rate) == ("h264", 8)
        shown = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    assert len(shown) == FRAMES
    for number, frame in enumerate(shown):
        assert frame.shape == (SIDE, 2 * SIDE + GAP, 3)
        assert abs(float(frame[:, : SIDE - 8].mean()) - 15 * number) < 4


def test_a_film_carries_no_metadata_of_its_source(folder):
    with av.open(str(write_films(folder)[0])) as container:
        assert not {"title", "comment", "artist", "creation_time"} & set(container.metadata)


def test_the_sheet_of_a_clip_holds_strips(folder):
    (sheet,) = write_sheets(folder)
    with Image.open(sheet) as image:
        assert image.width > 4 * 272


def test_arrays_that_are_no_clip_are_named(folder):
    np.savez(folder / "0000.npz", image=np.zeros((2, 3, 4, 5), np.uint8))
    with pytest.raises(InputError, match=r"0000.npz: 'image' is missing or is not"):
        write_films(folder)
    with pytest.raises(InputError, match="image"):
        image_of(folder / "0000.npz", {"image": np.zeros((4, 5), np.uint8)})
