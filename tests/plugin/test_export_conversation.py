"""The export as a conversation: why it is impossible, what is in its way, and what came of it."""

import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from qtpy.QtCore import QEvent, QPoint, Qt
from qtpy.QtWidgets import QApplication

from napari_patchset import ExportPlan, PatchSet, Tiled
from napari_patchset.exporting.run import iter_export
from napari_patchset.patchset import layout
from napari_patchset.plugin.dialogs import message
from napari_patchset.plugin.layers.layer_stack import register_layer
from support.czi_maker import MakeCzi, SceneSpec
from support.gestures import paste, type_into
from support.window import Window, digests

pytestmark = pytest.mark.gui


def status(window: Window) -> str:
    return str(window.widget.export.status.value)


def answer(window: Window, text: str) -> None:
    (button,) = (each for each in window.widget.export.answers if each.text() == text)
    window.click(button)


def offered(window: Window) -> list[str]:
    return [button.text() for button in window.widget.export.answers]


def save_to(window: Window, out: Path) -> None:
    """Paste the destination, and press Enter."""
    field = window.widget.export.out.line_edit.native
    paste(window, field, out)
    window.qtbot.keyClick(field, Qt.Key.Key_Return)
    window.settle()


def size_of(path: Path) -> tuple[int, ...]:
    with PatchSet(path) as patches:
        return patches["all"].shape[-2:]


def test_a_set_of_that_name_is_replaced_or_both_are_kept(window: Window, file: Path) -> None:
    window.open(file)
    export, out = window.widget.export, file.with_name("image.patches.zarr")
    window.click(export.start)
    window.until(lambda: status(window) == "Saved image.patches.zarr")
    assert export.open.enabled
    window.type_size(16, 32)
    assert status(window) == ""  # what is saved is another plan
    assert export.open.enabled  # it is still there
    window.click(export.start)
    assert status(window) == "image.patches.zarr exists already."
    assert offered(window) == ["Replace", "Keep both", "Cancel"]
    assert window.viewer.window._qt_window.focusWidget() is export.answers[-1]
    before = digests(out)
    answer(window, "Cancel")
    assert (status(window), offered(window)) == ("", [])
    assert digests(out) == before
    window.click(export.start)
    answer(window, "Keep both")
    window.until(lambda: status(window) == "Saved image-2.patches.zarr")
    assert (size_of(out), size_of(file.with_name("image-2.patches.zarr"))) == ((64, 64), (16, 32))
    save_to(window, out)
    assert status(window) == ""
    window.click(export.start)
    answer(window, "Replace")
    window.until(lambda: status(window) == "Saved image.patches.zarr")
    assert size_of(out) == (16, 32)


def test_nothing_moves_when_a_question_comes_and_it_goes_when_it_is_about_something_else(
    window: Window, file: Path, czi: MakeCzi
) -> None:
    window.open(file)
    export = window.widget.export
    parts = [export.out.native, export.more.parentWidget(), export.native]
    origin = QPoint(0, 0)

    def places() -> list[tuple[int, int]]:
        QApplication.sendPostedEvents(None, QEvent.Type.LayoutRequest)
        window.qtbot.wait(1)
        return [(part.mapTo(window.widget, origin).y(), part.height()) for part in parts]

    before = places()
    window.export_to(file.with_name("a.patches.zarr")).close()
    assert places() == before
    window.click(export.start)
    assert offered(window)
    assert places() == before
    assert not export.start.native.isVisible()
    window.qtbot.keyClick(export.answers[-1], Qt.Key.Key_Escape)
    assert not offered(window)
    assert export.start.native.isVisible()
    assert places() == before
    export.show_running(True)
    assert export.progress.visible
    assert places() == before
    export.show_running(False)
    assert places() == before

    window.click(export.start)
    assert offered(window)
    window.type_size(32, 32)
    assert (offered(window), status(window)) == ([], "")
    window.click(export.start)
    answer(window, "Replace")
    window.until(lambda: status(window) == "Saved a.patches.zarr")
    window.open(czi(SceneSpec(rect=(0, 0, 128, 128)), name="other.czi"))
    assert status(window) == ""
    assert not export.open.enabled  # that is another image's


def test_the_set_of_an_image_is_proposed_when_it_is_chosen_again_and_any_that_is_named_opens(
    window: Window, file: Path, czi: MakeCzi, tmp_path: Path
) -> None:
    window.open(file)
    export = window.widget.export
    window.click(export.start)
    window.until(lambda: status(window) == "Saved image.patches.zarr")
    window.open(czi(SceneSpec(rect=(0, 0, 128, 128)), name="other.czi"))
    assert export.destination == str(tmp_path / "other.patches.zarr")
    assert not export.open.enabled
    window.widget.source.file.value = file
    window.settle()
    assert export.destination == str(tmp_path / "image.patches.zarr")
    assert export.open.enabled
    assert status(window) == ""

    made = tmp_path / "made.patches.zarr"
    window.export_to(made).close()
    window.click_scene(1)
    assert status(window) == ""
    save_to(window, tmp_path / "none.patches.zarr")
    assert not export.open.enabled
    save_to(window, made)
    assert export.open.enabled
    window.click(export.open)
    window.until(window.widget.preview.gallery.isVisible)
    shutil.rmtree(made)
    window.type_size(32, 32)
    assert not export.open.enabled


def test_a_name_that_is_typed_or_loaded_is_not_that_of_the_next_image(
    window: Window, file: Path, czi: MakeCzi, tmp_path: Path
) -> None:
    window.open(file)
    export = window.widget.export
    made = tmp_path / "made.patches.zarr"
    save_to(window, made)
    window.click(export.start)
    window.until(lambda: status(window) == "Saved made.patches.zarr")
    assert export.open.enabled
    window.viewer.layers.clear()
    window.settle()
    assert (export.destination, export.open.enabled, status(window)) == ("", False, "")
    window.open(czi(SceneSpec(rect=(0, 0, 128, 128)), name="other.czi"))
    assert export.destination == str(tmp_path / "other.patches.zarr")
    assert (export.open.enabled, status(window)) == (False, "")
    window.open(file)
    assert export.destination == str(made)
    assert export.open.enabled


@pytest.fixture
def unfinished(
    window: Window, czi: MakeCzi, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> ExportPlan:
    """Show an image of which an export with other settings was stopped."""
    monkeypatch.setattr(layout, "SHARD_BYTES", 16 * 1024)
    image = czi(SceneSpec(rect=(0, 0, 200, 200)))
    out = image.with_name("image.patches.zarr")
    plan = ExportPlan(sources=[f"{image}@0"], strategy=Tiled(size=(16, 16)), out=out)
    events = iter_export(plan)
    while next(events).stage != "write":
        pass
    events.close()
    assert image.with_name("image.partial").exists()
    window.open(image)
    window.click(window.widget.export.start)
    question = "An export of image.patches.zarr with other settings is unfinished."
    window.until(lambda: status(window) == question)
    assert offered(window) == ["Continue that one", "Start over", "Cancel"]
    return plan


def test_an_unfinished_export_is_continued(
    window: Window, unfinished: ExportPlan, tmp_path: Path
) -> None:
    answer(window, "Continue that one")
    window.until(lambda: status(window) == "Saved image.patches.zarr")
    assert size_of(Path(unfinished.out)) == (16, 16)
    assert window.state.recipe.strategy.size == (64, 64)


def test_an_unfinished_export_is_started_over(window: Window, unfinished: ExportPlan) -> None:
    answer(window, "Cancel")
    assert Path(unfinished.out).with_name("image.partial").exists()
    window.click(window.widget.export.start)
    answer(window, "Start over")
    window.until(lambda: status(window) == "Saved image.patches.zarr")
    assert size_of(Path(unfinished.out)) == (64, 64)


def test_an_export_of_an_image_that_has_changed_is_started_over(
    window: Window, czi: MakeCzi, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(layout, "SHARD_BYTES", 16 * 1024)
    image = czi(SceneSpec(rect=(0, 0, 200, 200)))
    window.open(image)
    events = iter_export(window.state.plan())
    while next(events).stage != "write":
        pass
    events.close()
    data = bytearray(image.read_bytes())
    data[-1] ^= 1
    image.write_bytes(data)
    window.click(window.widget.export.start)
    question = "image.czi has changed since the export of image.patches.zarr began."
    window.until(lambda: status(window) == question)
    assert offered(window) == ["Start over", "Cancel"]
    answer(window, "Start over")
    window.until(lambda: status(window) == "Saved image.patches.zarr")


def test_a_refused_export_of_layers_leaves_no_folder(
    window: Window, unfinished: ExportPlan
) -> None:
    answer(window, "Cancel")
    out = Path(unfinished.out)
    window.viewer.layers.clear()
    window.viewer.add_image(np.arange(64 * 64, dtype=np.uint16).reshape(64, 64), name="made")
    window.until(lambda: window.state is not None)
    save_to(window, out)
    window.click(window.widget.export.start)
    window.until(lambda: "Start over" in offered(window))
    answer(window, "Cancel")
    assert {path.name for path in out.parent.iterdir()} == {"image.czi", "image.partial"}
    window.click(window.widget.export.start)
    window.until(lambda: "Start over" in offered(window))
    answer(window, "Start over")
    window.until(lambda: status(window) == "Saved image.patches.zarr")
    assert out.with_name("image.layers").exists()


def check_refused(window: Window, why: str) -> None:
    assert why in status(window)
    assert not window.widget.export.start.enabled


def check_allowed(window: Window) -> None:
    assert status(window) == ""
    assert window.widget.export.start.enabled


def test_why_an_export_is_impossible_or_failed_is_told_until_it_is_mended(
    window: Window, file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    window.open(file)
    foreign, good = tmp_path / "foreign.patches.zarr", tmp_path / "a.patches.zarr"
    foreign.mkdir()
    destinations = {
        foreign: "foreign.patches.zarr exists; choose another name",
        file / "a.patches.zarr": "image.czi is a file; choose a folder",
        tmp_path / "a.zarr": "must end in .patches.zarr",
    }
    for out, why in destinations.items():
        save_to(window, out)
        check_refused(window, why)
        save_to(window, good)
        check_allowed(window)
    usage = type("Usage", (), {"free": 1000})()
    hindrances = {"can't be written": (os, "access"), "1 kB free; make": (shutil, "disk_usage")}
    for size, (why, (module, name)) in enumerate(hindrances.items(), 32):
        value = usage if name == "disk_usage" else False
        with monkeypatch.context() as patched:
            patched.setattr(module, name, lambda *_, value=value: value)
            window.type_size(size, size)
            check_refused(window, why)
        window.type_size(64, 64)
        check_allowed(window)
    assert not good.exists()

    window.unfold("Strategy")
    window.choose(window.widget.form.strategy.kind, "fixed")
    check_refused(window, "There is no patch to export.")
    window.choose(window.widget.form.strategy.kind, "tiled")
    check_allowed(window)
    window.unfold("Filters")
    type_into(window, window.widget.form.filters.text.native, "std>1e9")
    window.settle()
    check_refused(
        window, "No patch is left (rejected: 12 by contrast > 1e+09). Loosen the filters."
    )
    window.click(window.widget.form.filters.rows[0].remove_button)
    check_allowed(window)

    whole = file.read_bytes()
    file.write_bytes(b"no image any more")
    window.click(window.widget.export.start)
    window.until(lambda: "not a CZI file" in status(window))
    assert not list(tmp_path.glob("*.partial"))
    assert window.widget.export.start.enabled
    file.write_bytes(whole)
    window.type_size(32, 32)
    check_allowed(window)


def test_a_format_that_cannot_hold_it_is_told_before_the_export(
    window: Window, tmp_path: Path
) -> None:
    window.viewer.add_image(np.zeros((64, 64), np.float16), name="half")
    window.until(lambda: window.state is not None)
    save_to(window, tmp_path / "a.patches.zarr")
    window.unfold("Output")
    window.choose(window.widget.form.output.format, "tiff")
    check_refused(window, "OME-TIFF has no pixel type float16")
    window.choose(window.widget.form.output.dtype, "float32")
    check_allowed(window)


def test_labels_of_another_shape_are_refused_by_the_preview(
    window: Window, file: Path, tmp_path: Path
) -> None:
    window.open(file)
    wrong = window.viewer.add_labels(np.ones((64, 96), np.uint8), name="my cells")
    window.settle()
    window.unfold("Target and labels")
    box = window.widget.form.pairs.boxes["labels"]
    window.choose(box, register_layer(wrong))
    assert "my cells, the labels of image.czi, Left, is Y 64, X 96" in window.summary
    assert not window.widget.export.start.enabled
    right = window.viewer.add_labels(np.ones((2, 3, 64, 96), np.uint8), name="cells")
    window.settle()
    window.choose(box, register_layer(right))
    assert "patches" in window.summary
    assert window.widget.export.start.enabled
    assert [path.name for path in tmp_path.iterdir()] == ["image.czi"]


def test_what_the_user_typed_as_destination_stays_with_its_image(
    window: Window, file: Path, czi: MakeCzi, tmp_path: Path
) -> None:
    other = czi(SceneSpec(rect=(0, 0, 128, 128)), name="other.czi")
    window.open(file)
    assert window.widget.export.destination == str(tmp_path / "image.patches.zarr")
    window.open(other)
    assert window.widget.export.destination == str(tmp_path / "other.patches.zarr")
    assert str(tmp_path / "other.patches.zarr") in window.widget.export.out.tooltip
    save_to(window, tmp_path / "mine.patches.zarr")
    window.widget.source.file.value = file
    window.settle()
    assert window.widget.export.destination == str(tmp_path / "image.patches.zarr")
    window.widget.source.file.value = other
    window.settle()
    assert window.widget.export.destination == str(tmp_path / "mine.patches.zarr")
    window.unfold("Output")
    window.choose(window.widget.form.output.format, "npz")
    assert window.widget.export.destination == str(tmp_path / "mine.patches")


def test_no_number_of_an_error_is_told() -> None:
    with pytest.raises(FileNotFoundError) as caught:
        Path("no such", "file.tif").read_bytes()
    assert message(caught.value) == f"{Path('no such', 'file.tif')}: no such file or directory"
