"""Predictions back into the image: the dialog, the run in a background thread, and the result.

`StitchControl` checks the fields of `StitchDialog` as they change, stitches, and opens the result
over the scenes that the patches were cut from, wherever these lie in the window.
"""

from collections import Counter
from collections.abc import Callable, Generator, Sequence
from contextlib import closing
from pathlib import Path
from threading import Event
from typing import Any, NamedTuple

from magicgui.widgets import CheckBox, ComboBox, LineEdit, ProgressBar, PushButton
from napari.viewer import Viewer
from qtpy.QtWidgets import (
    QDialog,
    QFileDialog,
    QFormLayout,
    QLabel,
    QPushButton,
    QVBoxLayout,
    QWidget,
)

from napari_patchset.jobs.folder import Stopped
from napari_patchset.patchset.layout import SUFFIXES, stem_of
from napari_patchset.patchset.manifest import Manifest
from napari_patchset.patchset.reader import PatchSet
from napari_patchset.plugin.dialogs import USER_ERRORS, message
from napari_patchset.plugin.form.fields import Row
from napari_patchset.plugin.layers.stitched import ShownPlaces, shown_places, stitched_layers
from napari_patchset.plugin.napari_compat import theme_colors
from napari_patchset.plugin.preferences import export_memory
from napari_patchset.plugin.reader import FileOpener, Opened, read_file
from napari_patchset.plugin.worker import Worker
from napari_patchset.stitching.stitch import (
    StitchOptions,
    StitchProgress,
    check_stitching,
    iter_stitch,
)
from napari_patchset.stitching.stitch_folder import SUFFIX, StitchFolder
from napari_patchset.stitching.stitched_image import StitchedImage, images_of

_BY_NAME = "all, by name"
_WIDTH = 480
_PREDICTIONS = "the predictions: a zarr, npy, npz, or a folder of TIFFs"
_STAGES = {"stitch": "Stitching", "levels": "Making lower resolutions"}


class Choice(NamedTuple):
    """What the fields of the dialog say."""

    patch_set: str
    predictions: str
    split: str | None
    """The split that is predicted; None for all that the predictions name."""
    out: str
    options: StitchOptions

    @property
    def by_split(self) -> Any:
        """The predictions as `iter_stitch` takes them."""
        return self.predictions if self.split is None else {self.split: self.predictions}


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
        self.status.setWordWrap(True)
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
        buttons = Row([self.start, self.stop, self.show_result])
        layout = QVBoxLayout(self)
        for widget in (self.fields, self.status, self.progress.native, buttons.native):
            layout.addWidget(widget)
        self.setMinimumWidth(_WIDTH)
        self.offer_splits(())

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


def _check(choice: Choice) -> Generator[tuple[str, ...], None, str]:
    """Check the fields; runs in a background thread.

    Yields
    ------
    tuple of str
        The splits of the set.

    Returns
    -------
    str
        What would be stitched.
    """
    with PatchSet(choice.patch_set) as patch_set:
        yield patch_set.splits
        if not choice.predictions or not choice.out:
            return ""
        manifest = patch_set.manifest
    plan = check_stitching(choice.patch_set, choice.by_split, choice.out, choice.options)
    folder = StitchFolder.for_image(Path(choice.out))
    folder.check_free(overwrite=False)
    if not (begun := folder.has_plan(plan)):
        folder.check_not_begun()
    images = list(images_of(manifest.sources, plan.channels, plan.dtype, plan.factor))
    count = "1 image" if len(images) == 1 else f"{len(images)} images"
    n = len(plan.channels)
    sizes = list(map(_sizes, images))
    largest = {axis: max(each.get(axis, 1) for each in sizes) for axis in images[0].axes}
    shape = " × ".join(f"{axis} {size:,}" for axis, size in largest.items() if axis in sizes[0])
    up_to = "" if all(each == sizes[0] for each in sizes) else "up to "
    text = f"{count}, {up_to}{shape} px, {n} channel{'s' * (n > 1)}, {plan.dtype}"
    resumes = "; resumes where it stopped" if begun else ""
    return f"{text}{resumes}.{_not_covered(manifest, choice.split)}"


def _sizes(image: StitchedImage) -> dict[str, int]:
    """Return the size of an image along each of its axes."""
    sizes = dict(zip(image.frame_axes, image.frame_shape, strict=True))
    return sizes | dict(zip(image.spatial_axes, image.spatial_shape(0), strict=True))


def _not_covered(manifest: Manifest, split: str | None) -> str:
    """Return which patches of a set have no prediction, as a sentence; "" if all have one."""
    counts = Counter(manifest.counts)
    without = {
        "rejected": sum(manifest.rejected.values()),
        "put in another split": 0 if split is None else counts.total() - counts[split],
    }
    parts = [
        f"{n:,} patch{'es were' if n > 1 else ' was'} {which}" for which, n in without.items() if n
    ]
    return f" {' and '.join(parts)}: what they alone cover gets 0." if parts else ""


def _stitch(
    choice: Choice, memory: int, cancelled: Event
) -> Generator[StitchProgress, None, StitchProgress | None]:
    """Stitch; runs in a background thread. Return the last event, None if it was stopped."""
    last = None
    events = iter_stitch(
        choice.patch_set, choice.by_split, choice.out, memory=memory, **dict(choice.options)
    )
    with closing(events):
        for event in events:
            yield event
            last = event if event.stage == "done" else None
            if cancelled.is_set():
                break
    return last


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
        self._proposed, self._cancelled = "", Event()
        dialog = self.dialog
        for field in (dialog.patch_set, dialog.split, dialog.blend, dialog.argmax, dialog.out):
            field.changed.connect(self.check)
        dialog.predictions.changed.connect(self._on_predictions)
        dialog.start.changed.connect(self._start)
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
            StitchFolder.for_image(Path(self._choice.out)).request_stop()

    def check(self) -> None:
        """Check the fields, in the background."""
        if self.stitching.running:
            return
        dialog, choice = self.dialog, self.dialog.choice
        dialog.start.enabled = dialog.show_result.enabled = False
        if not choice.patch_set:
            self.checking.stop()
            dialog.show_text("Choose the patch set whose patches were predicted.")
            return
        dialog.show_text("Reading…")
        self.checking.run(_check, choice)

    def _on_predictions(self) -> None:
        """Propose a destination beside the predictions, unless one was typed."""
        path, out = Path(self.dialog.predictions.value), self.dialog.out
        if path.name and out.value in ("", self._proposed):
            self._proposed = str(propose_out(path))
            out.value = self._proposed
        self.check()

    def _on_checked(self, text: str) -> None:
        self.dialog.start.enabled = bool(text)
        choice = self.dialog.choice
        missing = _PREDICTIONS if not choice.predictions else "where to save"
        self.dialog.show_text(text or f"Choose {missing}.")

    def _on_refused(self, error: Exception) -> None:
        if not isinstance(error, USER_ERRORS):
            raise error
        self.dialog.show_text(message(error), is_error=True)

    def _start(self) -> None:
        self._choice, self._cancelled = self.dialog.choice, Event()
        self.dialog.show_running(True)
        self.dialog.show_text("Stitching…")
        self.stitching.run(_stitch, self._choice, export_memory(), self._cancelled)

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
        self.dialog.show_text("Stopped. Press Stitch to resume.")
        self.dialog.start.enabled = True

    def _open(self) -> None:
        if self._choice is not None:
            out, places = Path(self._choice.out), shown_places(self._viewer)
            text = f"Opening {out.name}…"
            self.opener.run(text, _read_result, out, self._choice.patch_set, places)
