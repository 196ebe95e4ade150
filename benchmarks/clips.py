"""How many times faster than real time clips are cut out of a long recording, per core.

Makes its own recording: H.264, 320 x 240 pixels, 25 frames per second, a picture that moves and
some noise. Run as `python benchmarks/clips.py`; `--threads 1` measures one core.
"""

import argparse
import csv
import tempfile
import time
from pathlib import Path

import av
import numpy as np
import torch

from atcon.data.cutting import ClipForm
from atcon.experiments.clips import make_clips

WIDTH, HEIGHT, RATE = 320, 240, 25
EVENT, PAUSE = 53.0, 60.0  # seconds: the mean length of an event in the paper, and between two


def main() -> None:
    """Print seconds of recording and of events, seconds of work, and their ratio per core."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=20)
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--gop", type=int, default=250, help="frames between key frames")
    options = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        _record(root / "long.mp4", options.minutes * 60, options.gop)
        events = _events(root / "events.csv", options.minutes * 60)
        size = (root / "long.mp4").stat().st_size
        mebibytes, megabits = size / 2**20, size / options.minutes / 60 * 8e-6
        print(
            f"{options.minutes:g} min of recording, {mebibytes:.0f} MiB ({megabits:.1f} Mbit/s); "
            f"{events:g} s of events"
        )
        for threads in options.threads:
            start, before = time.perf_counter(), time.process_time()
            record = make_clips(
                root / "events.csv",
                root / f"clips-{threads}",
                ClipForm(),
                shares=(1, 0, 1),
                workers=threads,
            )
            wall, busy = time.perf_counter() - start, time.process_time() - before
            print(
                f"{threads} thread{'s' * (threads > 1)}: {record['counts']['clips']} clips, "
                f"{wall:.2f} s, of a core {busy:.2f} s; "
                f"{events / wall / threads:.0f} x real time per thread, "
                f"{events / busy:.0f} x per core"
            )


def _record(path: Path, seconds: float, gop: int) -> None:
    random = np.random.default_rng(0)
    scene = random.integers(0, 256, (HEIGHT // 8, WIDTH // 4, 3)).astype(np.uint8)
    scene = scene.repeat(8, axis=0).repeat(8, axis=1)
    noise = random.integers(0, 48, (64, HEIGHT, WIDTH, 3)).astype(np.uint8)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=RATE, options={"preset": "veryfast"})
        stream.width, stream.height, stream.pix_fmt, stream.gop_size = WIDTH, HEIGHT, "yuv420p", gop
        for number in range(round(seconds * RATE)):
            left = number % WIDTH
            picture = scene[:, left : left + WIDTH] // 2 + noise[number % 64]
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), "rgb24")
            frame.pts = number
            container.mux(stream.encode(frame))
        container.mux(stream.encode())


def _events(path: Path, seconds: float) -> float:
    """Write events of two patients with pauses between them, and give their seconds."""
    starts = np.arange(7.3, seconds - EVENT, EVENT + PAUSE)
    with path.open("w", newline="") as handle:
        writer = csv.writer(handle)
        writer.writerow(("video", "patient", "start", "end", "label"))
        for index, start in enumerate(starts):
            row = ("long.mp4", f"p{index % 2}", f"{start:.3f}", f"{start + EVENT:.3f}", "x")
            writer.writerow(row)
    return float(len(starts) * EVENT)


if __name__ == "__main__":
    main()
