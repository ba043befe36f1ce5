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
    monkeypatch.setattr(QFileDialog, "getOpenFileName", lambda *_: (str(other), ""))
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
