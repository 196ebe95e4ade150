"""`atcon demo`: the main job on the embedded digits, no network and no files needed."""

from atcon.cli import options
from atcon.cli.run import execute


def demo(
    sets: options.Sets = None,
    out: options.Out = None,
    seed: options.Seed = None,
    device: options.Device = None,
    quiet: options.Quiet = False,
    as_json: options.AsJson = False,
    resume: options.Resume = False,
    no_images: options.NoImages = False,
) -> None:
    """Run everything on handwritten digits scattered over photographs (about two minutes)."""
    overrides = options.overrides(sets, seed, device, None, no_images=no_images)
    execute("digits", overrides, out, quiet=quiet, as_json=as_json, resume=resume)
