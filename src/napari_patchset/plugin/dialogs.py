"""Notifications of errors, and dialogs for files."""

from collections.abc import Callable
from functools import wraps
from pathlib import Path
from time import monotonic
from typing import Any, TypeVar, cast

from napari.utils.notifications import (
    Notification,
    NotificationSeverity,
    notification_manager,
    show_error,
)
from pydantic import ValidationError
from qtpy.QtGui import QColor
from qtpy.QtWidgets import QColorDialog, QFileDialog, QWidget

from napari_patchset._model import user_message
from napari_patchset.annotations.geojson import SUFFIXES as GEOJSON_SUFFIXES
from napari_patchset.errors import MissingAnnotationsError, PatchsetError
from napari_patchset.patching.strategies.balanced import LABELS_REMEDY
from napari_patchset.patching.strategies.tiled import SMALL_REMEDY
from napari_patchset.stacks.opening import FILE_FORMATS, ZIP_SUFFIX

_ANNOTATIONS_FIELD = "More options > Annotations"
_REMEDIES = {
    SMALL_REMEDY: f"{SMALL_REMEDY} (More options > Strategy > Small image)",
    "dd sources": "dd files or scenes",
    "the first source": "the first image",
    "export again, with overwrite if the set was completed without it": "press Export again",
    "export again with overwrite": "press Export again",
    "Either every source": "Either every image",
    LABELS_REMEDY: f"draw outlines ({_ANNOTATIONS_FIELD} > Draw…), or choose another strategy",
}
"""Words of errors, and remedies, in those of the form, with their places there."""

USER_ERRORS = (PatchsetError, ValidationError, OSError)
"""Errors that the user can put right."""

_Slot = TypeVar("_Slot", bound=Callable[..., None])


def message(error: Exception) -> str:
    """Return the message of an error in one line, with the place in the form of its remedy."""
    if isinstance(error, ValidationError):
        text = user_message(error)
        return f"{text[:1].upper()}{text[1:]}"
    if isinstance(error, OSError) and error.strerror and error.filename is not None:
        return f"{error.filename}: {error.strerror.lower()}"  # without "[Errno 2]"
    if isinstance(error, MissingAnnotationsError):
        return f"{str(error).removesuffix('.')} ({_ANNOTATIONS_FIELD})."
    return in_window(str(error))


def in_window(text: str) -> str:
    """Return a text in the words of the window."""
    for words, in_form in _REMEDIES.items():
        text = text.replace(words, in_form)
    return text


_REPEAT_SECONDS = 10
_shown_errors: dict[str, float] = {}
"""When each error was shown last."""


def show_error_once(text: str) -> None:
    """Notify of an error that many reads may have, unless it was shown seconds ago."""
    now = monotonic()
    if now - _shown_errors.get(text, -_REPEAT_SECONDS) >= _REPEAT_SECONDS:
        show_error(text)
    _shown_errors[text] = now


def show_offer(text: str, offer: str, act: Callable[[], None]) -> None:
    """Notify of something, with a button that follows it up."""
    actions = ((offer, lambda _: act()),)
    notification_manager.dispatch(Notification(text, NotificationSeverity.INFO, actions))


def notifying(slot: _Slot) -> _Slot:
    """Make a slot notify of `USER_ERRORS`; whatever else goes wrong is raised."""

    @wraps(slot)
    def notified(*args: Any) -> None:
        try:
            slot(*args)
        except USER_ERRORS as error:
            show_error(message(error))

    return cast("_Slot", notified)


def ask_image(parent: QWidget, image: Path | None) -> Path | None:
    """Open a dialog for an image file, in the folder of another one; None if it is cancelled."""
    name, _ = QFileDialog.getOpenFileName(parent, "Open file", folder_of(image), _image_kinds())
    return Path(name) if name else None


def ask_images(parent: QWidget, image: Path | None) -> list[Path]:
    """Open a dialog for image files, in the folder of another one; empty if it is cancelled."""
    title = "Add files to the set"
    names, _ = QFileDialog.getOpenFileNames(parent, title, folder_of(image), _image_kinds())
    return list(map(Path, names))


def _image_kinds() -> str:
    suffixes = [suffix for form in FILE_FORMATS for suffix in form.suffixes] + [ZIP_SUFFIX]
    return f"Images ({' '.join(f'*{suffix}' for suffix in suffixes)});;All files (*)"


def ask_plan(parent: QWidget, folder: str) -> Path | None:
    """Open a dialog for a plan file; None if it is cancelled."""
    name, _ = QFileDialog.getOpenFileName(parent, "Load plan", folder, "Plans (*.json)")
    return Path(name) if name else None


def folder_of(image: Path | None) -> str:
    """Return the folder of an image, to look there first; "" for none, a layer, or far away."""
    return str(image.parent) if image is not None and image.is_absolute() else ""


def ask_sheet(parent: QWidget, folder: str) -> Path | None:
    """Open a dialog for a samples sheet; None if it is cancelled."""
    kinds = "Samples sheets (*.csv *.tsv *.txt);;All files (*)"
    name, _ = QFileDialog.getOpenFileName(parent, "Samples sheet", folder, kinds)
    return Path(name) if name else None


def ask_plan_name(parent: QWidget, proposed: str) -> Path | None:
    """Open a dialog for where to save a plan; None if it is cancelled."""
    name, _ = QFileDialog.getSaveFileName(parent, "Save plan", proposed, "Plans (*.json)")
    return Path(name) if name else None


def ask_outlines(parent: QWidget, folder: str) -> Path | None:
    """Open a dialog for a file of outlines; None if it is cancelled."""
    kinds = f"GeoJSON ({' '.join(f'*{suffix}' for suffix in GEOJSON_SUFFIXES)})"
    name, _ = QFileDialog.getOpenFileName(parent, "Outlines of the image", folder, kinds)
    return Path(name) if name else None


def ask_color(parent: QWidget, color: str) -> str | None:
    """Open a dialog for a colour, "#rrggbb"; None if it is cancelled."""
    chosen = QColorDialog.getColor(QColor(color), parent)
    return chosen.name() if chosen.isValid() else None
