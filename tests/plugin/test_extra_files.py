"""Other files of the same patch set: which of their scenes go in, how many patches they give."""

from pathlib import Path

import pytest
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
