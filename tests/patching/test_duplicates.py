"""Near-duplicates: the hash by its definition, and which patches are kept."""

from math import cos, floor, pi

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from napari_patchset.patching import duplicates
from napari_patchset.patching.duplicates import (
    NO_HASH,
    are_near,
    find_duplicates,
    hash_columns,
    hashes_of,
    image_hashes,
)

patches = hnp.arrays(
    st.sampled_from(["u1", "u2", "i4", "f4", "f8"]),
    st.tuples(
        st.integers(1, 3), st.integers(1, 2), st.integers(1, 3), st.integers(1, 40), st.just(35)
    ),
    elements=st.integers(0, 120),
)


def plain_hash(patch: np.ndarray) -> int:
    """Return the hash of a patch CZYX by its definition, one pixel after the other."""
    planes = patch.reshape(-1, *patch.shape[-2:]).astype(float)
    total = [[sum(plane[y, x] for plane in planes) for x in range(planes.shape[2])]
             for y in range(planes.shape[1])]  # fmt: skip
    low, high = min(map(min, total)), max(map(max, total))
    grey = [[floor((v - low) / ((high - low) or 1) * 65535) for v in row] for row in total]
    height, width = len(grey), len(grey[0])

    def overlap(cell: int, pixel: int, n: int) -> int:
        return max(0, min((cell + 1) * n, (pixel + 1) * 32) - max(cell * n, pixel * 32))

    def shares(n: int) -> list[list[tuple[int, int]]]:
        return [[(k, w) for k in range(n) if (w := overlap(cell, k, n))] for cell in range(32)]

    means, rows, columns = np.zeros((32, 32), object), shares(height), shares(width)
    for i, j in np.ndindex(32, 32):
        cell = sum(a * b * grey[y][x] for y, a in rows[i] for x, b in columns[j])
        means[i, j] = cell * 64 // (height * width)
    wave = np.array([[round(1024 * cos((2 * x + 1) * u * pi / 64)) for x in range(32)]
                     for u in range(8)], object)  # fmt: skip
    lowest = (wave @ means @ wave.T).ravel().tolist()[1:]
    median = sorted(lowest)[31]
    return int("".join("1" if each > median else "0" for each in lowest), 2)


@given(patches)
def test_a_hash_has_a_bit_for_each_low_frequency_above_the_median(pixels: np.ndarray) -> None:
    together = image_hashes(pixels)
    assert together.tolist() == [plain_hash(patch) for patch in pixels]
    assert [image_hashes(patch[np.newaxis])[0] for patch in pixels] == together.tolist()
    np.testing.assert_array_equal(image_hashes(pixels[:, :, 0]), image_hashes(pixels[:, :, :1]))


def test_a_hash_does_not_depend_on_how_many_patches_there_are() -> None:
    pixels = np.random.default_rng(0).normal(100, 30, (90, 2, 61, 67)).astype(np.float32)
    alone = [image_hashes(patch[np.newaxis])[0] for patch in pixels]
    np.testing.assert_array_equal(image_hashes(pixels), alone)


def test_what_looks_alike_has_near_hashes() -> None:
    rng = np.random.default_rng(0)
    images = rng.gamma(2, 300, (20, 1, 8, 8)).repeat(8, axis=2).repeat(8, axis=3)
    hashes = image_hashes(images)
    noisy = image_hashes(3 * images + 500 + rng.normal(0, 30, images.shape))
    assert np.bitwise_count(hashes ^ noisy).max() <= duplicates.ALIKE
    others = hashes[:, np.newaxis] ^ hashes
    assert np.bitwise_count(others)[~np.eye(20, dtype=bool)].min() > duplicates.MAX_DISTANCE


def test_a_patch_of_one_value_or_with_nan_has_no_bits() -> None:
    pixels = np.full((3, 1, 9, 9), 7.0)
    pixels[1, 0, 3, 3], pixels[2, 0, 0, 0] = np.nan, np.inf
    assert image_hashes(pixels).tolist() == [0, NO_HASH, NO_HASH]


@given(hnp.arrays(np.int64, st.integers(0, 9), elements=st.integers(-1, 2**63 - 1)))
def test_columns_hold_every_bit(hashes: np.ndarray) -> None:
    columns = hash_columns(hashes)
    columns[duplicates.HASH_HALVES[0]] = np.append(columns[duplicates.HASH_HALVES[0]], np.nan)
    columns[duplicates.HASH_HALVES[1]] = np.append(columns[duplicates.HASH_HALVES[1]], np.nan)
    read, is_measured = hashes_of(columns)
    assert read.tolist() == [*hashes.tolist(), NO_HASH]
    assert is_measured.tolist() == [True] * len(hashes) + [False]
    assert hashes_of({}) is None


def plain_duplicates(hashes: list[int], distance: int, preferred: list[bool]) -> list[bool]:
    order = sorted(range(len(hashes)), key=lambda i: not preferred[i])
    kept = list[int]()
    for i in order:
        alike = any((hashes[i] ^ hashes[k]).bit_count() <= distance for k in kept)
        if hashes[i] == NO_HASH or preferred[i] or not alike:
            kept += [i] if hashes[i] != NO_HASH else []
    return [i not in kept and hashes[i] != NO_HASH for i in range(len(hashes))]


@given(
    st.lists(st.integers(0, 63), max_size=30),
    st.integers(0, 3),
    st.integers(0, duplicates.MAX_DISTANCE),
)
@example(flips=[0, 0, 1, 2, 3], every=2, distance=3)  # two that are preferred look alike
def test_the_first_of_those_that_look_alike_is_kept(
    flips: list[int], every: int, distance: int
) -> None:
    rng = np.random.default_rng(len(flips))
    hashes = [NO_HASH]
    for flip in flips:  # a walk, so that distances of all sizes occur
        hashes.append(int(rng.integers(2**63)) if flip == 63 else max(hashes[-1], 0) ^ (1 << flip))
    preferred = [every > 0 and i % (every + 1) == 1 for i in range(len(hashes))]
    with pytest.MonkeyPatch.context() as patch:
        for name, value in (("_ROWS_AT_ONCE", 3), ("_PAIRS_AT_ONCE", 4)):
            patch.setattr(duplicates, name, value)
        found = find_duplicates(np.array(hashes), distance, np.array(preferred))
    assert found.tolist() == plain_duplicates(hashes, distance, preferred)


@pytest.mark.parametrize("distance", range(duplicates.MAX_DISTANCE + 1))
def test_near_hashes_are_found_wherever_they_differ(distance: int) -> None:
    rng = np.random.default_rng(distance)
    others = rng.integers(0, 2**63, 400)
    flipped = [
        sum(1 << int(b) for b in rng.choice(63, distance + i % 2, False)) for i in range(400)
    ]
    hashes = others ^ np.array(flipped, np.int64)
    expected = (np.bitwise_count(hashes[:, np.newaxis] ^ others) <= distance).any(axis=1)
    np.testing.assert_array_equal(are_near(hashes, others, distance), expected)
    assert expected[::2].all()
    assert not expected[1::2].any()


def test_many_patches_are_compared_without_comparing_all_of_them() -> None:
    hashes = np.random.default_rng(0).integers(0, 2**63, 200_000)
    hashes[100_000:] = hashes[:100_000] ^ (1 << np.arange(100_000) % 60)
    found = find_duplicates(hashes, 4)
    assert not found[:100_000].any()
    assert found[100_000:].all()
