"""Balanced: the wanted shares, every pixel of a class as likely as any other."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from napari_patchset.errors import ArgumentError
from napari_patchset.patching import class_pixels
from napari_patchset.patching.grid import PatchGrid
from napari_patchset.patching.regions import Polygon, Rectangle
from napari_patchset.patching.strategies import Balanced
from napari_patchset.patching.strategies.balanced import format_shares, parse_shares
from napari_patchset.source import Rect, SourceInfo
from support.strategy_makers import LabelArray, box, source


def labelled(labels: np.ndarray, **fields: object) -> tuple[SourceInfo, LabelArray]:
    """Return a source with labels TYX, or TZYX."""
    if labels.ndim == 4:
        fields = {"axes": "TCZYX", "depth_axis": "Z", **fields}
    return source(labels.shape[0], 1, *labels.shape[1:], **fields), LabelArray(labels)


def planned(strategy: Balanced, *images: tuple[SourceInfo, LabelArray]) -> PatchGrid:
    sources, labels = zip(*images, strict=True)
    return strategy.plan(sources, None, labels)


def drawn_for(grid: PatchGrid) -> list[str]:
    assert grid.draws is not None
    return [list(grid.draws.weights)[code] for code in grid.draws.code]


@st.composite
def label_images(draw: st.DrawFn) -> list[tuple[SourceInfo, LabelArray]]:
    """Draw sources in which every pixel has one of four labels, by rectangles."""
    images = []
    for i in range(draw(st.integers(1, 3))):
        shape = draw(st.tuples(st.integers(1, 2), *[st.integers(12, 60)] * 2))
        labels = np.zeros(shape, np.uint8)
        for value in draw(st.lists(st.integers(1, 3), max_size=5)):
            y, x = draw(st.integers(0, shape[1] - 1)), draw(st.integers(0, shape[2] - 1))
            h, w = draw(st.integers(1, 40)), draw(st.integers(1, 40))
            labels[draw(st.integers(0, shape[0] - 1)), y : y + h, x : x + w] = value
        image = labelled(labels, key=f"key {i}")
        image[1].block_shape = draw(st.none() | st.tuples(*[st.integers(1, 70)] * 2))
        images.append(image)
    return images


@given(label_images(), st.integers(1, 300), st.data())
def test_each_class_has_its_share_and_every_patch_has_its_class(
    images: list, count: int, data: st.DataObject
) -> None:
    present = sorted({int(v) for _, labels in images for v in np.unique(labels.pixels)})
    shares = {str(v): data.draw(st.sampled_from([0.2, 1.0, 3.5])) for v in present}
    strategy = Balanced(
        size=(12, 9), count=count, classes=shares, seed=data.draw(st.integers(0, 9))
    )
    n = {v: sum(int((labels.pixels == v).sum()) for _, labels in images) for v in present}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(class_pixels, "SIDE", 16)
        if any(n[v] < k for v, k in zip(present, strategy.counts(), strict=True)):
            with pytest.raises(ArgumentError, match="fewer than the"):
                planned(strategy, *images)
            return
        grid = planned(strategy, *images)
    assert len(grid) == count
    names, total = drawn_for(grid), sum(shares.values())
    for name, share in shares.items():
        assert abs(names.count(name) - count * share / total) < 1
    assert grid.draws.weight.mean() == pytest.approx(
        sum(n[v] for v in present if str(v) in names) / sum(n.values())
    )
    for spec, name in zip(grid, names, strict=True):
        info, labels = images[spec.source_index]
        patch = labels.pixels[(spec.sample, *box(spec.start, spec.size))]
        assert patch.shape == spec.size
        assert (patch == int(name)).any()
        # In the middle, but where the border shifted it.
        for axis, (start, size, n_pixels) in enumerate(
            zip(spec.start, spec.size, info.spatial_shape, strict=True)
        ):
            if 0 < start < n_pixels - size:
                middle = np.take(patch, size // 2, axis=axis)
                assert (middle == int(name)).any()


PLACES = {
    "left half": (slice(None), slice(200)),
    "left border": (slice(None), slice(15)),
    "top border": (slice(0, 12), slice(None)),
    "corner": (slice(-80, None), slice(-80, None)),
}


@pytest.mark.parametrize("place", PLACES)
def test_ten_thousand_patches_have_the_wanted_shares(place: str) -> None:
    labels = np.zeros((1, 300, 400), np.uint8)
    labels[0][PLACES[place]] = 1
    strategy = Balanced(size=(64, 64), count=10_000, classes={"mito": 0.3, "background": 0.7})
    image = labelled(labels)
    image[1].names["mito"] = 1
    grid = planned(strategy, image)
    names = np.array(drawn_for(grid))
    assert abs((names == "mito").mean() - 0.3) < 0.01
    for name, value in (("mito", 1), ("background", 0)):
        starts = grid.start[names == name]
        assert all((labels[0][box(start, (64, 64))] == value).any() for start in starts[::37])


@pytest.mark.parametrize("is_inside", [False, True])
def test_every_pixel_of_a_class_is_equally_likely(is_inside: bool) -> None:
    # All patches of 1 x 1 show the pixel that was drawn.
    labels = np.zeros((2, 6, 7), np.int16)
    labels[0, :3], labels[1, 2:, 4:] = -3, -3
    region = Polygon(points=((0, 0), (7, 0), (0, 6))) if is_inside else None
    image = labelled(labels)
    image[1].block_shape = (4, 4)
    times = np.zeros(labels.shape)
    n_seeds, count = 350, 12
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(class_pixels, "SIDE", 4)
        for seed in range(n_seeds):
            strategy = Balanced(
                size=(1, 1), count=count, classes={"-3": 2, "0": 1}, seed=seed, region=region
            )
            grid = planned(strategy, image)
            np.add.at(times, (grid.sample, *grid.start.T), 1)
    allowed = np.ones(labels.shape, bool)
    if region is not None:
        starts = np.argwhere(allowed[0])
        allowed[:] = region.contains(starts, (1, 1)).reshape(labels.shape[1:])
    for value, drawn in ((-3, 8), (0, 4)):
        pixels = (labels == value) & allowed
        n, expected = int(pixels.sum()), n_seeds * drawn / int(pixels.sum())
        # Drawn without repetition: the variance is less than that of independent draws.
        chi_square = ((times[pixels] - expected) ** 2 / expected).sum() / (1 - drawn / n)
        # Within four standard deviations of its mean.
        assert abs(chi_square - (n - 1)) < 4 * (2 * (n - 1)) ** 0.5
    assert not times[~allowed].any()


def test_a_pixel_at_the_border_is_drawn_as_often_as_one_inside() -> None:
    labels = np.zeros((1, 40, 40), bool)
    labels[0, 0, 0] = labels[0, 20, 20] = True
    starts = []
    for seed in range(400):
        strategy = Balanced(size=(9, 9), count=1, classes="1=1", seed=seed)
        starts += planned(strategy, labelled(labels)).start.tolist()
    assert {tuple(start) for start in starts} == {(0, 0), (16, 16)}
    assert 150 < starts.count([0, 0]) < 250


def test_only_pixels_whose_patch_may_be_cut_are_drawn() -> None:
    labels = np.ones((3, 60, 80), np.uint8)
    labels[:, :30] = 2
    image = labelled(
        labels, missing=frozenset({(1, 0, 0)}), covered=(Rect(0, 0, 50, 60),), block_shape=(16, 16)
    )
    region = Polygon(points=((0, 0), (80, 0), (0, 60)))
    strategy = Balanced(
        size=(10, 10), count=200, classes="1=1,2=1", region=region, min_covered=1, seed=4
    )
    grid = planned(strategy, image)
    assert (len(grid), grid.excluded) == (200, {})
    assert [drawn_for(grid).count(name) for name in "12"] == [100, 100]
    assert set(grid.sample.tolist()) == {0, 2}
    assert region.contains(grid.start, (10, 10)).all()
    assert (grid.start[:, 1] <= 40).all()
    assert (grid.valid == 1).all()


def test_patches_are_shifted_into_a_rectangle_and_a_range_of_depths() -> None:
    labels = np.zeros((1, 9, 50, 50), np.uint8)
    labels[0, 3, 11, 11] = 7
    strategy = Balanced(
        size=(4, 16, 16),
        count=1,
        classes="7=1",
        region=Rectangle(x=10, y=10, w=30, h=30),
        select={"Z": (3, 9)},
    )
    assert planned(strategy, labelled(labels)).start.tolist() == [[3, 10, 10]]
    with pytest.raises(ArgumentError, match="no pixel of the class '7'"):
        planned(strategy.model_copy(update={"select": {"Z": (4, 9)}}), labelled(labels))


def test_a_class_on_one_plane_of_one_source_is_found() -> None:
    first, second = np.zeros((5, 30, 30), np.uint8), np.zeros((4, 20, 40), np.uint8)
    second[2, 5:9, 5:9] = 1
    images = labelled(first, key="a"), labelled(second, key="b")
    grid = planned(Balanced(size=(8, 8), count=20, classes="1=1,0=1"), *images)
    of_class = grid[np.array(drawn_for(grid)) == "1"]
    assert len(of_class) == 10
    assert {(spec.source_index, spec.sample) for spec in of_class} == {(1, 2)}
    n_background = 5 * 900 + 4 * 800 - 16
    weights = {"1": 16 / (16 + n_background) / 0.5, "0": n_background / (16 + n_background) / 0.5}
    assert grid.draws.weights == pytest.approx(weights)


def test_weights_undo_the_sampling() -> None:
    rng = np.random.default_rng(0)
    labels = (rng.random((1, 400, 400)) < np.linspace(0, 0.2, 400)).astype(np.uint8)
    image = labelled(labels)
    grid = planned(Balanced(size=(1, 1), count=20_000, classes="1=0.5,0=0.5"), image)
    values = np.arange(400)[grid.start[:, 1]] + 1000.0 * labels[0][tuple(grid.start.T)]
    every = np.arange(400) + 1000.0 * labels[0]
    assert abs(values.mean() - every.mean()) > 300
    assert np.average(values, weights=grid.draws.weight) == pytest.approx(every.mean(), rel=0.01)


@pytest.mark.parametrize(
    ("dtype", "classes", "counts"),
    [
        (np.float32, "1=1,0=1,2=1", [1, 1, 1]),
        (np.float64, "foreground=1,background=2", [1, 2]),
        (np.uint64, "2=1,foreground=1", [1, 1]),
    ],
)
def test_labels_of_any_type_are_compared_by_value(
    dtype: type, classes: str, counts: list[int]
) -> None:
    labels = np.zeros((1, 8, 8), dtype)
    labels[0, 2, 2:4], labels[0, 5, 5] = (1, 2), 2
    if np.dtype(dtype).kind == "f":
        labels[0, 7], labels[0, 6, 6] = np.nan, 0.5
    grid = planned(Balanced(size=(1, 1), count=sum(counts), classes=classes), labelled(labels))
    shown = [labels[0][spec.start] for spec in grid]
    assert not np.isnan(shown).any()
    assert [drawn_for(grid).count(name) for name in grid.draws.weights] == counts


def test_one_pixel_is_enough_for_one_patch_and_not_for_two() -> None:
    labels = np.zeros((1, 30, 30), np.uint8)
    labels[0, 29, 0] = 255
    one = Balanced(size=(8, 8), count=1, classes="255=1")
    assert planned(one, labelled(labels)).start.tolist() == [[22, 0]]
    with pytest.raises(ArgumentError, match=r"class '255' has 1 pixel, fewer than the 2 patches"):
        planned(one.model_copy(update={"count": 2}), labelled(labels))
    with pytest.raises(ArgumentError, match=r"no pixel of the class '3' .* such as 0, 255\. Leave"):
        planned(Balanced(size=(8, 8), count=4, classes="3=1,0=1"), labelled(labels))


def test_classes_that_labels_do_not_have_are_named() -> None:
    image = labelled(np.zeros((1, 30, 30), np.uint8))
    with pytest.raises(ArgumentError, match="no class 'mito': the labels have no names"):
        planned(Balanced(size=(8, 8), count=4, classes="mito=1"), image)
    image[1].names.update({"Tumor": 1, "background": 2})
    with pytest.raises(
        ArgumentError, match=r"class 'mito' .* has the classes 'Tumor', 'background'"
    ):
        planned(Balanced(size=(8, 8), count=4, classes="mito=1"), image)
    with pytest.raises(ArgumentError, match="no pixel of the class 'background'"):
        planned(Balanced(size=(8, 8), count=4, classes="background=1"), image)
    with pytest.raises(ArgumentError, match="annotations or labels, and the image has none"):
        Balanced(size=(8, 8), count=4, classes="1=1").plan([image[0]])


def test_memory_does_not_grow_with_the_image() -> None:
    class Stripes(LabelArray):
        """Labels of an image of 100 000 x 1000 pixels, of which none are stored."""

        def read(self, sample: int, start: tuple, size: tuple) -> np.ndarray:
            self.reads.append(size)
            assert size[0] * size[1] <= 2**20
            return np.broadcast_to((np.arange(start[1], start[1] + size[1]) % 100 == 0), size)

    labels = Stripes(np.zeros(0), block_shape=(7, 300))
    image = source(1, 1, 100_000, 1000)
    grid = planned(Balanced(size=(64, 64), count=50, classes="1=1"), (image, labels))
    assert len(grid) == 50
    n_pixels = 100_000 * 1000
    assert n_pixels <= sum(h * w for h, w in labels.reads) <= n_pixels + 50 * 2**20


TEXTS = {
    "mito=0.5,background=0.5": {"mito": 0.5, "background": 0.5},
    " mito = 3 , 7 = 1": {"mito": 3, "7": 1},
    '"Tumor, stroma = x"=1,ñ µ/é=2e-3': {"Tumor, stroma = x": 1, "ñ µ/é": 0.002},
}


@pytest.mark.parametrize("text", TEXTS)
def test_shares_are_parsed(text: str) -> None:
    assert Balanced(size=8, count=1, classes=text).classes == TEXTS[text]


@given(st.dictionaries(st.text(max_size=9), st.floats(1e-9, 1e9), min_size=1))
def test_shares_with_names_of_any_kind_are_read_as_they_are_written(shares: dict) -> None:
    assert parse_shares(format_shares(shares)) == shares


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("mito", "'mito' is not a class and its share; write mito=0.5"),
        ("mito=a", "is not a class and its share"),
        ("a, b=1,c=1", 'in quotes what has a comma: "Tumor, invasive"=0.5'),
        ('5" disc=1', r'a quote in a name is \\": "5\\" disc"=0.5'),
        ("a=1,,b=1", "is not a class and its share"),
        ('"a=1', "is not a class and its share"),
        ("a=1,a=2", "names the class 'a' twice"),
        ("a=0", "share of 'a' is 0; it must be above 0"),
        ("a=nan", "share of 'a' is nan"),
        ("a=-1,b=2", "share of 'a' is -1"),
        ("", "need a class"),
    ],
)
def test_impossible_shares_are_refused(text: str, message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        Balanced(size=8, count=1, classes=text)


@pytest.mark.parametrize("block", [(1, 5000), (64, 64), (300, 7), (4096, 4096)])
def test_the_tiles_of_the_labels_change_nothing_and_are_decoded_together(
    block: tuple[int, int],
) -> None:
    labels = np.zeros((1, 3000, 2500), np.uint8)
    labels[0, 900:1100, 100:2400] = 1
    strategy = Balanced(size=(64, 64), count=200, classes="1=1,0=1")
    image = labelled(labels)
    expected = planned(strategy, image)
    image[1].block_shape, image[1].reads = block, []
    grid = planned(strategy, image)
    assert list(grid) == list(expected)
    n_windows = -(-3000 // max(block[0], 1024)) * -(-2500 // max(block[1], 1024))
    assert len(image[1].reads) <= 2 * n_windows
