"""The package as a whole: quick to import, documented, and free of what ties it to one machine."""

import inspect
import subprocess
import sys
from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules

import pytest

import atcon

ROOT = Path(__file__).parents[2]
PUBLIC = ["atcon", *(f"atcon.{module.name}" for module in iter_modules(atcon.__path__))]
LOCK_FILES = {"poetry.lock", "uv.lock", "Pipfile.lock", "pdm.lock", "pixi.lock", "conda-lock.yml"}
REGISTRY_HOSTS = (
    ("py", "pi.org"),
    ("python", "hosted.org"),
    ("registry.np", "mjs.org"),
    ("deb.deb", "ian.org"),
    ("anacon", "da.org"),
)
"""In halves, so that this file does not name them either."""


def run_python(code: str) -> str:
    done = subprocess.run(  # noqa: S603 - the code stands below
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    return done.stdout.strip()


def tracked_files() -> list[Path]:
    listing = subprocess.run(
        ["git", "-c", "safe.directory=*", "ls-files", "-z"],  # noqa: S607 - whichever git there is
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    return [ROOT / name for name in listing.stdout.split("\0") if name and (ROOT / name).exists()]


def test_importing_atcon_does_not_load_torch_and_using_it_does() -> None:
    loaded = "print('torch' in sys.modules)"
    code = f"import sys, atcon; {loaded}; atcon.grad_cam; {loaded}"
    assert run_python(code).split() == ["False", "True"]


def test_importing_atcon_takes_less_than_half_a_second() -> None:
    code = "import time; t = time.perf_counter(); import atcon; print(time.perf_counter() - t)"
    assert min(float(run_python(code)) for _ in range(3)) < 0.5


def test_every_public_name_exists_and_is_listed() -> None:
    assert set(atcon.__all__) <= set(dir(atcon))
    assert all(hasattr(atcon, name) for name in atcon.__all__)
    with pytest.raises(AttributeError, match="no_such_name"):
        atcon.no_such_name  # noqa: B018 - the access is what is tested


@pytest.mark.parametrize("module", PUBLIC)
def test_every_public_name_has_a_docstring_of_its_own(module: str) -> None:
    package = import_module(module)
    assert package.__doc__
    for name in getattr(package, "__all__", ()):
        thing = getattr(package, name)
        if inspect.isclass(thing) or inspect.isfunction(thing):
            written = thing.__doc__ or ""
            assert written, f"{module}.{name}"
            assert not written.startswith(f"{name}("), f"{module}.{name}: made by dataclass"


def test_no_tracked_file_names_a_registry() -> None:
    hosts = ["".join(halves).encode() for halves in REGISTRY_HOSTS]
    naming = [p for p in tracked_files() if any(host in p.read_bytes() for host in hosts)]
    assert not naming


def test_no_versions_are_locked() -> None:
    names = {path.name for path in tracked_files()}
    assert not names & LOCK_FILES
    assert not any(name.startswith("requirements") for name in names)
