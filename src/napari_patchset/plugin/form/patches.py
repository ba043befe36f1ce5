"""Patches: depth axis, size and overlap, what everybody sets."""

from magicgui.widgets import Label, RadioButtons
from qtpy.QtWidgets import QRadioButton, QSizePolicy

from napari_patchset.axes import DEPTH_AXES, DepthAxis
from napari_patchset.plugin.form.rows import Part, SizeRow


class PatchesPart(Part):
    """Depth axis, size and overlap of the patches."""

    def __init__(self) -> None:
        self.depth_axis = RadioButtons(
            label="Depth axis",
            choices=list(DEPTH_AXES),
            orientation="horizontal",
            tooltip="The third axis of a patch; along the others, each plane has its own patches.",
        )
        self.depth_axis.value = "none"
        self.depth_axis.native.setStyleSheet("QGroupBox { border: 0; margin: 0; padding: 0 }")
        self.size = SizeRow("Size", (8, 64, 64), 1, "Pixels along each axis of a patch.")
        self.overlap = SizeRow("Overlap", (0, 0, 0), 0, "Pixels that neighbouring patches share.")
        self.hint = Label(value="")
        super().__init__([self.depth_axis, self.size, self.hint, self.overlap])
        self.hint.label = " "
        self.hint.native.setWordWrap(True)
        self.hint.native.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Preferred)

    def offer_depth_axes(self, reasons: dict[DepthAxis, str]) -> None:
        """Disable the depth axes that have a reason against them, and say it."""
        for button in self.depth_axis.native.findChildren(QRadioButton):
            reason = reasons.get(button.text(), "")
            button.setEnabled(not reason)
            button.setToolTip(reason)
        if reasons.get(self.depth_axis.value):
            self.depth_axis.value = "none"

    def say(self, hint: str) -> None:
        """Say beneath the size what it comes to."""
        if hint != self.hint.value:  # else all of the form would be laid out anew
            self.hint.value = hint

    def show_fields(self, has_size: bool, has_overlap: bool) -> None:
        """Show what the strategy asks for."""
        self.size.visible = self.hint.visible = has_size
        self.overlap.visible = has_overlap
        for row in (self.size, self.overlap):
            row.show_depth(self.depth_axis.value)
