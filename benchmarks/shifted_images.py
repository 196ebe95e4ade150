"""Folders of images for docs/howto/monitor.md: held out, blurred, noisy, and of another kind.

Run as `python benchmarks/shifted_images.py DATA OUT`: DATA is the folder of development data, OUT a
new one, which gets `clean`, `blurred`, `noisy` (300 photographs each) and `digits` (150).
"""

import sys
from pathlib import Path

import numpy as np
from PIL import Image, ImageFilter
from scipy.io import loadmat

PHOTOGRAPHS, DIGITS = 300, 150
RADIUS, DEVIATION = 4, 40


def main(data: Path, out: Path) -> None:
    """Write the folders."""
    for kind in ("clean", "blurred", "noisy", "digits"):
        (out / kind).mkdir(parents=True)
    _photographs(data / "voc2012-animals/VOCdevkit/VOC2012", out)
    pixels = loadmat(data / "svhn/test_32x32.mat")["X"]
    for at in np.random.default_rng(0).permutation(pixels.shape[3])[:DIGITS]:
        Image.fromarray(pixels[..., at]).save(out / "digits" / f"{at}.png")


def _photographs(voc: Path, out: Path) -> None:
    names = (voc / "ImageSets/Main/val.txt").read_text().split()
    for at in np.random.default_rng(0).permutation(len(names))[:PHOTOGRAPHS]:
        with Image.open(voc / "JPEGImages" / f"{names[at]}.jpg") as file:
            image = file.convert("RGB")
        noise = np.random.default_rng(at).normal(0, DEVIATION, (image.height, image.width, 3))
        changed = {
            "clean": image,
            "blurred": image.filter(ImageFilter.GaussianBlur(RADIUS)),
            "noisy": Image.fromarray((np.asarray(image) + noise).clip(0, 255).astype(np.uint8)),
        }
        for kind, one in changed.items():
            one.save(out / kind / f"{names[at]}.png")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
