"""Metadata of the image as the user states it: axes, pixel size, channel names, axis of a sequence.

An empty field is as in the file, and shows what that is. What is typed holds from Enter or a change
of focus on, for that image alone.
"""

from magicgui.widgets import ComboBox, LineEdit
from psygnal import Signal
from pydantic import ValidationError

from napari_patchset._model import user_message
from napari_patchset.channels import format_channels
from napari_patchset.errors import ArgumentError
from napari_patchset.exporting.plans.image_refs import SourceRef
from napari_patchset.plugin.form.fields import Section, choices
from napari_patchset.plugin.form.pixel_size import pixel_size_words, typed_pixel_size
from napari_patchset.source import PixelSize, SourceInfo
from napari_patchset.stacks.sequence import SEQUENCE_AXES

AS_IN_THE_FILE = "as in the file"


class MetadataSection(Section):
    """Fields that override the metadata of the image's file.

    Attributes
    ----------
    problem : str
        Why the typed values can't be used, "" if they can.
    """

    edited = Signal()
    """Other values were typed."""

    def __init__(self) -> None:
        self.sequence = ComboBox(
            label="Files along",
            choices=choices(*((axis, axis) for axis in SEQUENCE_AXES)),
            tooltip="The axis along which the files are one image.",
        )
        self.axes = LineEdit(label="Axes")
        self.pixel_size = LineEdit(
            label="Pixel size µm",
            tooltip="In micrometres: 0.2 for Y and X, or Z, Y, X as 1, 0.2, 0.2.",
        )
        self.names = LineEdit(
            label="Channel names",
            tooltip="One for each channel: DAPI, EGFP; in quotes if there is a comma in it.",
        )
        self.problem = ""
        self._ref: SourceRef | None = None
        super().__init__([self.sequence, self.axes, self.pixel_size, self.names])
        self.sequence.changed.connect(lambda _: self.edited.emit())
        for line in (self.axes, self.pixel_size, self.names):
            line.native.editingFinished.connect(self._on_typed)

    def offer(self, ref: SourceRef, own: SourceInfo, takes_axes: bool) -> None:
        """Show the overrides of an image, and in empty fields the metadata of its file."""
        self._ref, self.problem = ref, ""
        with self.sequence.changed.blocked():
            self.sequence.visible = ref.sequence is not None
            if ref.sequence:
                self.sequence.value = ref.sequence
        self.axes.visible = takes_axes
        sizes = ", ".join(f"{axis} {n}" for axis, n in own.layout.sizes.items())
        self.axes.tooltip = (
            f"A letter for each dimension, like ZYX or TCYX. As in the file: {sizes}."
        )
        shown = {
            self.axes: (ref.axes or "", own.axes),
            self.pixel_size: (_format_size(ref.pixel_size), _format_size(own.pixel_size)),
            self.names: (format_channels(ref.channel_names or ()), format_channels(own.channels)),
        }
        for line, (text, placeholder) in shown.items():
            line.native.setPlaceholderText(placeholder or "unknown")
            if line.value != text:
                line.value = text

    @property
    def value(self) -> SourceRef | None:
        """The image with the overrides that are typed, None while there is none.

        Raises
        ------
        ArgumentError
            If a value can't be read.
        """
        if self._ref is None:
            return None
        typed = {
            "axes": self.axes.value.strip().upper(),
            "channel_names": self.names.value.strip(),
        }
        fields = {**dict(self._ref), **{name: text or None for name, text in typed.items()}}
        fields["pixel_size"] = typed_pixel_size(self.pixel_size.value)
        if self._ref.sequence:
            fields["sequence"] = self.sequence.value
        try:
            return SourceRef.model_validate(fields)
        except ValidationError as error:
            raise ArgumentError(user_message(error)) from None

    @property
    def summary(self) -> str:
        """A short summary of the settings."""
        ref = self._ref
        if ref is None:
            return AS_IN_THE_FILE
        n = len(ref.channel_names or ())
        parts = (
            f"files along {ref.sequence}" if ref.sequence else "",
            ref.axes,
            pixel_size_words(ref.pixel_size) if ref.pixel_size else "",
            f"{n} {'name' if n == 1 else 'names'}" if n else "",
        )
        return ", ".join(part for part in parts if part) or AS_IN_THE_FILE

    def _on_typed(self) -> None:
        try:
            is_same = self.value == self._ref
        except ArgumentError:
            is_same = False
        if not is_same or self.problem:
            self.edited.emit()


def _format_size(size: PixelSize | None) -> str:
    """Return a pixel size as it is typed, one number if Y and X are equal; "" for none."""
    if size is None or size.y is None or size.x is None:
        return ""
    if size.z is None and size.y == size.x:
        return f"{size.x:g}"
    return ", ".join(f"{n:g}" for n in (size.z, size.y, size.x) if n is not None)
