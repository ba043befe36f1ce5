"""Other files of the same patch set: which of their scenes go in, how many patches they give."""

from pathlib import Path

import numpy as np
import pytest
import tifffile
from qtpy.QtCore import Qt
from qtpy.QtWidgets import QFileDialog

from support.czi_maker import MakeCzi, SceneSpec
from support.window import XML, Window

pytestmark = pytest.mark.gui


def listed(window: Window) -> list[str]:
    files = window.widget.source_control.extra_files.list
    return [files.item(i).text() for i in range(files.count())]


def sources(window: Window) -> list[tuple[str, object]]:
    return [(Path(ref.path).name, ref.scene) for ref in window.state.sources]


def test_an_added_file_brings_one_scene_or_those_of_a_loaded_plan_or_all_as_the_tick_says(
    window: Window, file: Path, czi: MakeCzi, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scenes = [SceneSpec(id=i, rect=(300 * i, 0, 64 + 64 * i, 64), c=2) for i in range(2)]
    other = czi(*scenes, name="other.czi", xml=XML)
    window.open(file)
    monkeypatch.setattr(QFileDialog, "getOpenFileNames", lambda *_: ([str(other)], ""))
    extra = window.widget.source_control.extra_files
    window.click(extra.add)
    assert sources(window) == [("image.czi", 0), ("other.czi", 0)]
    assert listed(window) == ["other.czi: 1 patch"]

    plan = window.state.plan()
    refs = (plan.sources[0], plan.sources[1].model_copy(update={"scene": 1}))
    saved = tmp_path / "plan.json"
    saved.write_text(plan.model_copy(update={"sources": refs}).model_dump_json())
    monkeypatch.setattr(QFileDialog, "getOpenFileName", lambda *_: (str(saved), ""))
    window.widget.export.load_plan.trigger()
    window.settle()
    assert sources(window) == [("image.czi", 0), ("other.czi", 1)]

    window.tick(extra.all_scenes.native)
    own = [("image.czi", 0), ("image.czi", 1)]
    assert sources(window) == [*own, ("other.czi", 0), ("other.czi", 1)]
    assert listed(window) == ["other.czi: 3 patches"]
    assert "other.czi" in extra.list.item(0).toolTip()
    window.type_size(500, 500)
    assert listed(window) == ["other.czi"]
    where = extra.list.visualItemRect(extra.list.item(0)).center()
    window.qtbot.mouseClick(extra.list.viewport(), Qt.MouseButton.LeftButton, pos=where)
    window.qtbot.mouseDClick(extra.list.viewport(), Qt.MouseButton.LeftButton, pos=where)
    window.settle()
    assert (sources(window), listed(window)) == (own, [])


def test_several_files_are_added_at_once_to_the_image_that_keeps_them(
    window: Window, czi: MakeCzi, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They had stayed in the set of whatever image was opened next."""
    scene = SceneSpec(rect=(0, 0, 64, 64))
    a, b, c, d = (czi(scene, name=f"{name}.czi") for name in "abcd")
    broken = a.with_name("broken.czi")
    broken.write_bytes(a.read_bytes()[:200])
    asked: list[object] = []

    def ask(_: object, title: str, folder: str, kinds: str) -> tuple[list[str], str]:
        asked.append(folder)
        return [str(b), str(broken), str(c)], ""

    said: list[str] = []
    monkeypatch.setattr(QFileDialog, "getOpenFileNames", ask)
    monkeypatch.setattr("napari_patchset.plugin.scenes.extra_files.show_error", said.append)
    window.open(a)
    window.click(window.widget.source_control.extra_files.add)
    assert asked == [str(a.parent)]
    assert [name for name, _ in sources(window)] == ["a.czi", "b.czi", "c.czi"]
    (error,) = said
    assert "broken.czi" in error
    window.open(d)
    assert sources(window) == [("d.czi", 0)]
    notes = window.widget.source.notes
    assert notes.value == "Added to a.czi, not to this set: b.czi, c.czi"
    window.open(b)
    assert sources(window) == [("b.czi", 0)]
    window.choose(window.widget.source.file, a)
    assert [name for name, _ in sources(window)] == ["a.czi", "b.czi", "c.czi"]
    window.widget.source.file.value = b  # as by a click in the list, not past the others
    window.settle()
    assert [name for name, _ in sources(window)] == ["b.czi", "a.czi", "c.czi"]
    assert not notes.visible


def test_a_note_on_files_of_another_image_fits_and_goes_with_that_image(
    window: Window, czi: MakeCzi
) -> None:
    scene = SceneSpec(rect=(0, 0, 64, 64))
    a, b, c, d = (czi(scene, name=f"a_{name}_of_a_long_name.czi") for name in "abcd")
    window.open(a)
    layers = list(window.images)
    window.widget.add_files([b, c])
    window.settle()
    window.open(d)
    notes = window.widget.source.notes
    assert notes.value.startswith("Added to a_a_of_a_long_name.czi, not to this set")
    assert notes.native.minimumWidth() == 0  # as it is no label of a field
    for layer in layers:
        window.viewer.layers.remove(layer)
    window.until(lambda: not notes.visible)


def test_images_that_look_like_copies_are_planned_as_they_are_exported(
    window: Window, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No fingerprint samples where they differ; the region is that of the image on the screen."""
    paths = [tmp_path / f"{name}.tif" for name in "abc"]
    pixels = np.zeros((512, 512), np.uint16)
    for path in paths:
        tifffile.imwrite(path, pixels, metadata=None)
        pixels[150, 40] = 5
    window.open(paths[0])
    window.type_size(32, 32)
    window.choose(window.widget.form.strategy.kind, "random")
    names = [str(path) for path in paths[1:]]
    monkeypatch.setattr(QFileDialog, "getOpenFileNames", lambda *_: (names, ""))
    window.click(window.widget.source_control.extra_files.add)
    window.until(lambda: "the same pixels are cut once" in window.summary)
    planned = window.widget.plans.current
    assert planned is not None
    assert [info.name for info in planned.sources] == ["a.tif", "b.tif"]
    keys = [info.key for info in planned.sources]
    assert len(set(keys)) == 2
    places = zip(planned.grid.source_index, planned.grid.start.tolist(), strict=True)
    shown = [(keys[i], *start) for i, start in places]
    with pytest.warns(UserWarning, match="the same pixels are cut once"):
        made = window.export_to(tmp_path / "a.patches.zarr")
    rows = made.table.to_pylist()
    assert [(row["source"], row["y_start"], row["x_start"]) for row in rows] == shown
    made.close()
    box = [(0, 0), (0, 200), (200, 200), (200, 0)]
    layer = window.viewer.add_shapes([box], shape_type="polygon")
    region = window.widget.form.region.layer
    window.until(lambda: layer in region.choices)
    region.value = layer
    window.settle()
    planned = window.widget.plans.current
    assert planned is not None
    assert len(planned.grid) > 0
    assert set(planned.grid.source_index.tolist()) == {0}
    with pytest.warns(UserWarning, match="the same pixels are cut once"):
        made = window.export_to(tmp_path / "b.patches.zarr")
    assert {row["source"] for row in made.table.to_pylist()} == {keys[0]}
    assert made.table.num_rows == len(planned.grid)
    made.close()
