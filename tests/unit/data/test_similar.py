import numpy as np
import pytest

from atcon.data.checks.similar import MOST_BITS, alike, close_pairs, differences, distance


def random_hashes(count, seed=0):
    return np.random.default_rng(seed).integers(0, 2**64, size=count, dtype=np.uint64)


def flipped(value, bits):
    for bit in bits:
        value ^= np.uint64(1) << np.uint64(bit)
    return value


def test_distance_counts_the_bits_that_differ():
    one = np.array([0, 2**64 - 1, 0b1011], dtype=np.uint64)
    other = np.array([0, 0, 0b0110], dtype=np.uint64)
    assert distance(one, other).tolist() == [0, 64, 3]


@pytest.mark.parametrize("most", [0, 1, 4, 6, 10])
def test_the_search_by_bands_finds_the_pairs_that_comparing_all_finds(most):
    generator = np.random.default_rng(1)
    base = random_hashes(40)
    noisy = [
        flipped(value, generator.choice(64, size=generator.integers(0, 12), replace=False))
        for value in base.tolist() * 3
        for value in [np.uint64(value)]
    ]
    hashes = np.array([*base, *noisy], dtype=np.uint64)
    first, second = np.triu_indices(len(hashes), 1)
    near = distance(hashes[first], hashes[second]) <= most
    expected = np.stack([first[near], second[near]], axis=1)
    assert 0 < len(expected) < len(first)
    assert close_pairs(hashes, most).tolist() == expected.tolist()


@pytest.mark.parametrize("bits", [range(MOST_BITS), range(64 - MOST_BITS, 64), range(0, 64, 8)])
def test_the_largest_distance_is_found_wherever_the_bits_lie(bits):
    hashes = random_hashes(200)
    hashes[150] = flipped(hashes[20], bits)
    assert len(bits) == MOST_BITS
    assert close_pairs(hashes).tolist() == [[20, 150]]


def test_a_search_among_equal_hashes_ends_at_its_limit():
    pairs = close_pairs(np.zeros(2000, dtype=np.uint64), limit=5000)
    assert len(pairs) == 5000
    assert (pairs[:, 0] < pairs[:, 1]).all()


def test_nothing_is_similar_among_none_or_one():
    for count in (0, 1):
        assert close_pairs(random_hashes(count)).shape == (0, 2)


def test_thumbnails_differ_in_levels_and_correlate():
    ramp = np.arange(192, dtype=np.uint8).reshape(3, 8, 8)
    grey = ramp.mean(axis=0, keepdims=True).astype(np.uint8).repeat(3, axis=0)
    thumbnails = np.stack([ramp, ramp + 3, ramp[:, ::-1, ::-1], np.full_like(ramp, 7), grey])
    levels, correlation = differences(thumbnails, np.array([[0, k] for k in range(5)]))
    assert levels[:2].tolist() == [0, 3]
    assert correlation == pytest.approx([1, 1, -1, 0, 1])


def test_alike_gives_the_places_of_what_occurs_twice():
    assert alike(["a", "b", "a", "c", "b", "a"]) == [[0, 2, 5], [1, 4]]
