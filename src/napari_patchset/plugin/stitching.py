"""Predictions back into the image: the dialog, the run that it starts, and the result.

`StitchControl` checks the fields of `StitchDialog` as they change, stitches, and opens the result
over the scenes that the patches were cut from, wherever these lie in the window.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from threading import Event

from magicgui.widgets import CheckBox, ComboBox, LineEdit, ProgressBar, PushButton
from napari.viewer import Viewer
from qtpy.QtWidgets import (
    QDialog,
    QFileDialog,
    QFormLayout,
    QLabel,
    QPushButton,
    QSizePolicy,
    QVBoxLayout,
    QWidget,
)

from napari_patchset.jobs.folder import Stopped
from napari_patchset.patchset.layout import SUFFIXES, stem_of
from napari_patchset.plugin.dialogs import USER_ERRORS, message
from napari_patchset.plugin.form.fields import Row, TextBox
from napari_patchset.plugin.layers.stitched import ShownPlaces, shown_places, stitched_layers
from napari_patchset.plugin.napari_compat import theme_colors
from napari_patchset.plugin.preferences import export_memory
from napari_patchset.plugin.reader import FileOpener, Opened, read_file
from napari_patchset.plugin.stitch_task import Checked, Choice, check_choice, run_stitching
from napari_patchset.plugin.worker import Worker
from napari_patchset.stitching.stitch import StitchOptions, StitchProgress
from napari_patchset.stitching.stitch_folder import SUFFIX

_BY_NAME = "all, by name"
_WIDTH = 480
_PREDICTIONS = "the predictions: a zarr, npy, npz, or a folder of TIFFs"
_STAGES = {"stitch": "Stitching", "levels": "Making lower resolutions"}


class StitchDialog(QDialog):
    """The fields: set, predictions, blend and destination; progress, and buttons."""

    def __init__(self, parent: QWidget) -> None:
        super().__init__(parent)
        self.setWindowTitle("Stitch predictions")
        self.patch_set = LineEdit(tooltip="The set whose patches were predicted.")
        self.predictions = LineEdit(
            tooltip="An array N, C, (Z), Y, X in the order of the patches: a zarr array, .npy, "
            ".npz, a folder of TIFFs with one file for each patch, or a patch set.",
        )
        self.split = ComboBox(tooltip="The split that was predicted.", choices=[])
        self.blend = ComboBox(
            choices=[
                ("cropped: each pixel from one patch", "crop"),
                ("averaged", "average"),
                ("weighted: the middle of a patch counts most", "hann"),
            ],
            value=StitchOptions().blend,
            tooltip=StitchOptions.help("blend"),
        )
        self.argmax = CheckBox(text="Save labels: the number of the highest channel")
        self.argmax.tooltip = StitchOptions.help("argmax")
        self.out = LineEdit(tooltip=f"The OME-Zarr to write, NAME{SUFFIX}.")
        self.status, self.progress = QLabel(), ProgressBar(value=0, min=0, max=1, visible=False)
        policy = self.progress.native.sizePolicy()
        policy.setRetainSizeWhenHidden(True)  # so that no button moves when a run begins
        self.progress.native.setSizePolicy(policy)
        self.start = PushButton(text="Stitch", enabled=False)
        self.stop = PushButton(
            text="Stop", tooltip="The next run resumes where it stopped.", enabled=False
        )
        self.show_result = PushButton(
            text="Open it", tooltip="Show the result over its scene.", enabled=False
        )
        self.go_on = PushButton(
            text="Continue that one", tooltip="Stitch with the settings that it was begun with."
        )
        self.start_over = PushButton(
            text="Start over", tooltip="Delete what is unfinished, and stitch with these settings."
        )
        for button in (self.go_on, self.start_over):
            button.native.setAutoDefault(False)  # Enter in a field must not press it
        self.fields = QWidget()
        self._form = form = QFormLayout(self.fields)
        form.setContentsMargins(0, 0, 0, 0)
        with_buttons = self._with_buttons
        form.addRow("Patch set", with_buttons(self.patch_set, ("…", self._choose_set)))
        chosen = ("File…", self._choose_file), ("Folder…", self._choose_folder)
        form.addRow("Predictions", with_buttons(self.predictions, *chosen))
        form.addRow("Split", self.split.native)
        form.addRow("Overlap", self.blend.native)
        form.addRow("", self.argmax.native)
        form.addRow("Save to", with_buttons(self.out, ("…", self._choose_out)))
        buttons = Row([self.start, self.stop, self.show_result, self.go_on, self.start_over])
        layout = QVBoxLayout(self)
        # Neither the fields nor the dialog change their height with the message.
        self.fields.setSizePolicy(QSizePolicy.Policy.Preferred, QSizePolicy.Policy.Fixed)
        message_box = TextBox([self.status], lines=4)
        for widget in (self.fields, message_box, self.progress.native, buttons.native):
            layout.addWidget(widget)
        self.setMinimumWidth(_WIDTH)
        self.offer_splits(())
        self.offer_answers(is_taken=False, can_go_on=False)

    @property
    def choice(self) -> Choice:
        """What the fields say."""
        options = StitchOptions(blend=self.blend.value, argmax=self.argmax.value)
        texts = (self.patch_set.value.strip(), self.predictions.value.strip())
        split = None if self.split.value == _BY_NAME else self.split.value
        return Choice(*texts, split, self.out.value.strip(), options)

    def offer_splits(self, splits: Sequence[str]) -> None:
        """Offer the splits of the set, if it has several."""
        choices = [*splits, _BY_NAME] if len(splits) > 1 else []
        if tuple(choices) != tuple(self.split.choices):
            self.split.choices = choices
        self._form.setRowVisible(self.split.native, bool(choices))

    def offer_answers(self, is_taken: bool, can_go_on: bool) -> None:
        """Ask what is to become of an unfinished stitching, in place of the other buttons."""
        self.go_on.visible, self.start_over.visible = is_taken and can_go_on, is_taken
        for button in (self.start, self.stop, self.show_result):
            button.visible = not is_taken

    def show_text(self, text: str, is_error: bool = False) -> None:
        """Show what is known of the fields, or how far the run is."""
        style = f"color: {theme_colors().error.name()}" if is_error else ""
        if style != self.status.styleSheet():
            self.status.setStyleSheet(style)
        self.status.setText(text)

    def show_running(self, running: bool) -> None:
        """Enable what applies while it runs, or while it does not."""
        self.stop.enabled = self.progress.visible = running
        self.fields.setEnabled(not running)
        if running:
            self.start.enabled = self.show_result.enabled = False
            self.offer_answers(is_taken=False, can_go_on=False)

    def _with_buttons(self, field: LineEdit, *buttons: tuple[str, Callable[[], None]]) -> QWidget:
        row = Row([field])
        for text, act in buttons:
            button = QPushButton(text)
            button.setAutoDefault(False)  # Enter in a field must not press it
            button.clicked.connect(lambda _=False, act=act: act())
            row.native.layout().addWidget(button)
        native: QWidget = row.native
        return native

    def _choose_set(self) -> None:
        if name := QFileDialog.getExistingDirectory(self, "Patch set", self.patch_set.value):
            self.patch_set.value = name

    def _choose_file(self) -> None:
        kinds = "Arrays (*.npy *.npz);;All files (*)"
        name, _ = QFileDialog.getOpenFileName(self, "Predictions", self.patch_set.value, kinds)
        self._set_predictions(name)

    def _choose_folder(self) -> None:
        title = "Predictions: a zarr, or a folder of TIFF files"
        self._set_predictions(QFileDialog.getExistingDirectory(self, title, self.patch_set.value))

    def _set_predictions(self, name: str) -> None:
        if name:
            self.predictions.value = name

    def _choose_out(self) -> None:
        kinds = f"OME-Zarr (*{SUFFIX})"
        name, _ = QFileDialog.getSaveFileName(self, "Save to", self.out.value, kinds)
        if name:
            self.out.value = str(with_suffix(Path(name)))


def with_suffix(out: Path) -> Path:
    """Return the name of an OME-Zarr, with its suffix."""
    return out if out.name.endswith(SUFFIX) else out.with_name(f"{out.name}{SUFFIX}")


def propose_out(predictions: Path) -> Path:
    """Return a free name of an OME-Zarr beside the predictions."""
    stem = stem_of(predictions) if predictions.name.endswith(SUFFIXES) else predictions.stem
    numbers = ["", *(f"-{i}" for i in range(2, 100))]
    names = (predictions.with_name(f"{stem}{number}{SUFFIX}") for number in numbers)
    return next((name for name in names if not name.exists()), predictions.with_name(stem + SUFFIX))


def _read_result(out: Path, patch_set: str, places: ShownPlaces) -> Opened:
    """Read those images whose scenes are shown, else the first; runs in a background thread."""
    layers = stitched_layers(out, patch_set, places)
    return Opened(layers) if layers else read_file(str(out))


class StitchControl:
    """Check the fields of the dialog, stitch, and open the result.

    Parameters
    ----------
    parent : QWidget
        The panel.
    viewer : Viewer
        Where the result is opened.
    patch_set : callable
        Return the set that was exported last, or is about to be: the first to be proposed.
    """

    def __init__(self, parent: QWidget, viewer: Viewer, patch_set: Callable[[], str]) -> None:
        self.dialog = StitchDialog(parent)
        self.checking, self.stitching = Worker(), Worker()
        self.opener = FileOpener(viewer)
        self._viewer, self._patch_set = viewer, patch_set
        self._choice: Choice | None = None
        self._unfinished: Choice | None = None
        """What has the name, and can be continued."""
        self._proposed, self._cancelled = "", Event()
        dialog = self.dialog
        for field in (dialog.patch_set, dialog.split, dialog.blend, dialog.argmax, dialog.out):
            field.changed.connect(self.check)
        dialog.predictions.changed.connect(self._on_predictions)
        dialog.start.changed.connect(lambda: self._run(dialog.choice))
        dialog.go_on.changed.connect(self._go_on)
        dialog.start_over.changed.connect(lambda: self._run(dialog.choice, starts_over=True))
        dialog.stop.changed.connect(self.cancel)
        dialog.show_result.changed.connect(self._open)
        self.checking.yielded.connect(dialog.offer_splits)
        self.checking.returned.connect(self._on_checked)
        self.checking.failed.connect(self._on_refused)
        self.stitching.yielded.connect(self._on_progress)
        self.stitching.returned.connect(self._on_stitched)
        self.stitching.failed.connect(self._on_failed)

    @property
    def workers(self) -> tuple[Worker, ...]:
        """All workers."""
        return self.checking, self.stitching, self.opener.worker

    def show(self) -> None:
        """Show the dialog; propose the set that was exported."""
        if not self.dialog.patch_set.value and Path(self._patch_set() or "?").exists():
            self.dialog.patch_set.value = self._patch_set()
        self.dialog.show()
        self.dialog.raise_()
        self.check()

    def close(self) -> None:
        """Stop what runs, and close the dialog: the window closes."""
        self.cancel()
        self.dialog.close()

    def cancel(self) -> None:
        """Stop the run within a shard; finished shards stay."""
        if self.stitching.running and self._choice is not None:
            self._cancelled.set()
            self._choice.folder.request_stop()

    def check(self) -> None:
        """Check the fields, in the background."""
        if self.stitching.running:
            return
        dialog, choice = self.dialog, self.dialog.choice
        dialog.start.enabled = dialog.show_result.enabled = False
        dialog.offer_answers(is_taken=False, can_go_on=False)
        if not choice.patch_set:
            self.checking.stop()
            dialog.show_text("Choose the patch set whose patches were predicted.")
            return
        dialog.show_text("Reading…")
        self.checking.run(check_choice, choice)

    def _on_predictions(self) -> None:
        """Propose a destination beside the predictions, unless one was typed."""
        path, out = Path(self.dialog.predictions.value), self.dialog.out
        if path.name and out.value in ("", self._proposed):
            self._proposed = str(propose_out(path))
            out.value = self._proposed
        self.check()

    def _on_checked(self, checked: Checked) -> None:
        choice, self._unfinished = self.dialog.choice, checked.other
        self.dialog.start.enabled = bool(checked.text) and not checked.is_taken
        self.dialog.offer_answers(checked.is_taken, can_go_on=checked.other is not None)
        missing = _PREDICTIONS if not choice.predictions else "where to save"
        self.dialog.show_text(checked.text or f"Choose {missing}.")

    def _on_refused(self, error: Exception) -> None:
        if not isinstance(error, USER_ERRORS):
            raise error
        self.dialog.show_text(message(error), is_error=True)

    def _go_on(self) -> None:
        if self._unfinished is not None:
            self._run(self._unfinished)

    def _run(self, choice: Choice, starts_over: bool = False) -> None:
        self._choice, self._cancelled = choice, Event()
        self.dialog.show_running(True)
        self.dialog.show_text("Stitching…")
        self.stitching.run(run_stitching, choice, starts_over, export_memory(), self._cancelled)

    def _on_progress(self, event: StitchProgress) -> None:
        self.dialog.progress.max, self.dialog.progress.value = event.total, event.done
        if event.stage in _STAGES:
            self.dialog.show_text(f"{_STAGES[event.stage]}…")

    def _on_stitched(self, last: StitchProgress | None) -> None:
        self.dialog.show_running(False)
        if last is None:
            self._on_stopped()
            return
        covered = last.covered or 0
        text = f"Saved {last.path.name}."
        if covered < 1:
            text += f" Patches cover {100 * covered:.4g} % of it; the rest is 0."
        if last.nan:
            text += f" {100 * last.nan:.4g} % of the pixels are NaN, as predictions are."
        self.dialog.show_text(text)
        self.dialog.show_result.enabled = True

    def _on_failed(self, error: Exception) -> None:
        self.dialog.show_running(False)
        if isinstance(error, Stopped):
            self._on_stopped()
        else:
            self._on_refused(error)

    def _on_stopped(self) -> None:
        if self._choice != self.dialog.choice:  # Stitch would not resume it
            self.check()
            return
        self.dialog.show_text("Stopped. Press Stitch to resume.")
        self.dialog.start.enabled = True

    def _open(self) -> None:
        if self._choice is not None:
            out, places = Path(self._choice.out), shown_places(self._viewer)
            text = f"Opening {out.name}…"
            self.opener.run(text, _read_result, out, self._choice.patch_set, places)
