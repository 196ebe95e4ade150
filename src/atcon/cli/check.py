"""`atcon check MODEL`: what would go wrong with a network, before it is trained."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from atcon.cli import options
from atcon.errors import InputError
from atcon.plain_text import printable_json

if TYPE_CHECKING:
    from torch import Tensor, nn

    from atcon.inspection import Check
    from atcon.models import Network

_COLOURS = {"ok": "green", "note": "cyan", "warning": "yellow", "error": "bold red"}


def check(
    model: Annotated[
        str,
        typer.Argument(
            help="A network of torchvision, timm/NAME, digits_resnet, package.module:factory, or "
            "path/to/file.py:factory."
        ),
    ],
    images: Annotated[
        Path | None, typer.Option("--images", help="A folder of images; else random ones.")
    ] = None,
    size: Annotated[
        int | None, typer.Option("--size", min=1, help="Side of the images; else the network's.")
    ] = None,
    batch: Annotated[int, typer.Option("--batch", min=1, help="Images in a step.")] = 4,
    channels: Annotated[int, typer.Option("--channels", min=1, help="Of the random images.")] = 3,
    frames: Annotated[
        int | None, typer.Option("--frames", min=1, help="Of clips; their size is FRAMES x SIZE².")
    ] = None,
    layer: Annotated[
        str | None, typer.Option("--layer", help="The layer to explain; else it is found.")
    ] = None,
    classes: Annotated[
        int | None, typer.Option("--classes", min=1, help="10, or 1000 with imagenet weights.")
    ] = None,
    weights: Annotated[
        str | None, typer.Option("--weights", help="imagenet, or a file; else random weights.")
    ] = None,
    cost: Annotated[
        bool, typer.Option("--cost/--no-cost", help="Measure seconds and memory of a step.")
    ] = True,
    device: options.Device = None,
    as_json: options.AsJson = False,
) -> None:
    """Inspect a network before training: what would go wrong, why, and how to fix it.

    Ends with 0 if training would run, with 1 if it would not, with 2 if there is no such network.
    """
    from atcon import inspection  # noqa: PLC0415

    where = _device(device)
    network = _network(model, classes or (1000 if weights == "imagenet" else 10), weights)
    shape = (channels, *([frames] if frames else []), *[size or network.input_size] * 2)
    pictures = _pictures(images, network, batch, shape) if images else _random(batch, shape)
    found = inspection.check(network.module.to(where), pictures.to(where), layer=layer, cost=cost)
    title = (
        f"{model} with {weights or 'random'} weights, {len(pictures)} "
        f"{'images' if images else 'random images'} of {'x'.join(map(str, shape))} on {where}"
    )
    if as_json:
        typer.echo(printable_json(_record(title, found)))
    else:
        _show(title, found)
    if not found.ok:
        raise typer.Exit(1)


def _network(name: str, classes: int, weights: str | None) -> "Network":
    """Build the network, from a table, a package or a file."""
    from atcon.models import build  # noqa: PLC0415

    if name.rpartition(":")[0].endswith(".py"):
        return _network_of_file(name, classes, weights)
    if name.startswith("timm:"):
        name = f"timm/{name.removeprefix('timm:')}"
    network = build(name, classes=classes, weights=weights)
    if weights is None:
        _wake(network.module.get_submodule(network.head))
    return network


def _network_of_file(name: str, classes: int, weights: str | None) -> "Network":
    """Call a factory of a Python file, with `num_classes` if it takes that."""
    import inspect  # noqa: PLC0415

    from torch import nn  # noqa: PLC0415

    from atcon.models import Network, load_weights  # noqa: PLC0415
    from atcon.models.families import IMAGENET  # noqa: PLC0415

    path, _, factory_name = name.rpartition(":")
    with _importable(Path(path)) as found:
        try:
            factory = getattr(found, factory_name)
            takes = inspect.signature(factory).parameters.values()
            named = any(p.name == "num_classes" or p.kind is p.VAR_KEYWORD for p in takes)
            module = factory(num_classes=classes) if named else factory()
        except Exception as error:  # the user's code can raise anything
            raise InputError(
                f"{name} gives no network ({type(error).__name__}: {error}); give FILE.py:NAME, "
                "where NAME is a function without arguments, or with num_classes"
            ) from error
    if not isinstance(module, nn.Module):
        raise InputError(f"{name} returned a {type(module).__name__}, not a torch.nn.Module")
    if weights is not None:
        load_weights(module, weights)
    return Network(module, name, IMAGENET.mean, IMAGENET.std, IMAGENET.input_size, "")


@contextmanager
def _importable(path: Path) -> Iterator[object]:
    """Import a file, and let it import its neighbours, for the length of the block."""
    from importlib.util import module_from_spec, spec_from_file_location  # noqa: PLC0415

    if not path.is_file():
        raise InputError(f"{path}: no such file; give path/to/file.py:factory")
    spec = spec_from_file_location(f"_atcon_check_{path.stem}", path)
    if spec is None or spec.loader is None:
        raise InputError(f"{path}: cannot be imported; give path/to/file.py:factory")
    module = module_from_spec(spec)
    sys.path.insert(0, str(path.parent.resolve()))
    sys.modules[spec.name] = module
    try:
        spec.loader.exec_module(module)
        yield module
    except InputError:
        raise
    except Exception as error:  # as above
        raise InputError(f"{path} cannot be run ({type(error).__name__}: {error})") from error
    finally:
        sys.path.remove(str(path.parent.resolve()))
        del sys.modules[spec.name]


def _wake(head: "nn.Module") -> None:
    """Draw a head that starts at zero (torchvision's ViT), whose maps would all be zero."""
    import torch  # noqa: PLC0415

    weight = getattr(head, "weight", None)
    if isinstance(weight, torch.Tensor) and not bool(weight.any()):
        with torch.no_grad():
            weight.normal_(0, 0.02, generator=torch.Generator().manual_seed(0))


def _random(batch: int, shape: tuple[int, ...]) -> "Tensor":
    """Draw smooth images with some noise, centred, as photographs are after normalisation."""
    import torch  # noqa: PLC0415
    from torch.nn import functional  # noqa: PLC0415

    generator = torch.Generator().manual_seed(0)
    channels, *grid = shape
    coarse = torch.randn(batch, channels, *(min(8, side) for side in grid), generator=generator)
    mode = "trilinear" if len(grid) == 3 else "bilinear"
    smooth = functional.interpolate(coarse, size=grid, mode=mode)
    return smooth + 0.3 * torch.randn(batch, *shape, generator=generator)


def _pictures(folder: Path, network: "Network", batch: int, shape: tuple[int, ...]) -> "Tensor":
    """Read the first images of a folder, normalised for the network."""
    import torch  # noqa: PLC0415

    from atcon.data import read_image, resize  # noqa: PLC0415
    from atcon.data.folder import SUFFIXES  # noqa: PLC0415

    paths = sorted(p for p in folder.rglob("*") if p.suffix.lower() in SUFFIXES)[:batch]
    if not paths:
        raise InputError(f"{folder}: there are no images ({', '.join(sorted(SUFFIXES))}) here")
    if len(shape) != 3 or shape[0] != 3:
        raise InputError("--images gives colour images: leave out --channels and --frames")
    pixels = torch.stack([resize(read_image(path), shape[-1]) for path in paths])
    mean, std = (torch.tensor(v).reshape(-1, 1, 1) for v in (network.mean, network.std))
    return (pixels / 255 - mean) / std


def _device(name: str | None) -> str:
    import torch  # noqa: PLC0415

    if name in (None, "auto"):
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        torch.empty(1, device=name)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).split("\n")[0]
        raise InputError(f"--device {name}: cannot be used here ({reason}); try auto") from error
    return str(name)


def _record(title: str, found: "Check") -> dict[str, object]:
    """Give what JSON shows."""
    return {
        "model": title,
        "level": found.level,
        "verdict": found.verdict,
        "findings": [asdict(finding) for finding in found.findings],
        "skipped": list(found.skipped),
    }


def _show(title: str, found: "Check") -> None:
    """Print the findings, the worst last, beside the verdict."""
    from rich.table import Table  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    from atcon.cli.terminal import Terminal  # noqa: PLC0415
    from atcon.inspection import LEVELS  # noqa: PLC0415

    console = Terminal()
    console.say(title, "bold")
    table = Table.grid(padding=(0, 2, 0, 0))
    for finding in sorted(found.findings, key=lambda finding: LEVELS.index(finding.level)):
        colour = _COLOURS[finding.level]
        text = Text(finding.what, style="dim" if finding.level == "ok" else "")
        if finding.fix:
            text.append(f"\n-> {finding.fix}", style="italic")
        table.add_row(Text(finding.level, style=colour), Text(finding.name), text)
    console.print(table)
    if found.skipped:
        console.say(f"not checked, because of the error: {', '.join(found.skipped)}")
    console.say(found.verdict, _COLOURS[found.level])
