"""Finished runs to be compared, which cost nothing to make."""

import pytest
from finished_folders import OTHER, make_finished


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    """Two finished runs of one seed that share their supervised stage; read them only."""
    root = tmp_path_factory.mktemp("pair")
    return make_finished(root / "a"), make_finished(root / "b", method=1, lifts=OTHER)


@pytest.fixture(scope="module")
def seeds(tmp_path_factory):
    """Two methods over four seeds, as `atcon repeat` leaves them; read them only."""
    root = tmp_path_factory.mktemp("seeds")
    for seed in range(4):
        make_finished(root / "a" / f"seed-{seed}", seed)
        make_finished(root / "b" / f"seed-{seed}", seed, 1, OTHER)
    return root / "a", root / "b"


@pytest.fixture
def fresh(tmp_path):
    """Two finished runs to be changed."""
    return make_finished(tmp_path / "a"), make_finished(tmp_path / "b", method=1, lifts=OTHER)
