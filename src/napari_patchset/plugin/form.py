"""The parts of the form, each a magicgui container; they hold values and compute nothing."""

from pathlib import Path

from magicgui.types import FileDialogMode
from magicgui.widgets import (
    CheckBox,
    ComboBox,
    Container,
    FileEdit,
    Label,
    ProgressBar,
    PushButton,
    RadioButtons,
    SpinBox,
    Widget,
)
from qtpy.QtWidgets import QRadioButton

from napari_patchset.axes import DEPTH_AXES, DepthAxis
from napari_patchset.patchset.layout import SUFFIX

LARGEST_PATCH = 65536


class SourcePart(Container[Widget]):
    """Which of the open files patches are cut from, and a button to open one."""

    def __init__(self) -> None:
        self.file = ComboBox(
            label="Image", choices=[], nullable=True, tooltip="An open file to cut patches from."
        )
        self.open = PushButton(text="Open file…", tooltip="Open a CZI or TIFF file.")
        super().__init__(widgets=[self.file, self.open], labels=True)
        self.margins = (0, 0, 0, 0)


class SizeRow(Container[Widget]):
    """Three numbers along Z (or T), Y and X; the first is hidden without a depth axis."""

    def __init__(self, label: str, value: tuple[int, int, int], minimum: int, tooltip: str) -> None:
        self.boxes = [
            SpinBox(value=n, min=minimum, max=LARGEST_PATCH, label=axis, tooltip=tooltip)
            for n, axis in zip(value, "ZYX", strict=True)
        ]
        super().__init__(widgets=self.boxes, layout="horizontal", label=label, labels=True)
        self.margins = (0, 0, 0, 0)

    @property
    def value(self) -> tuple[int, int, int]:
        """The numbers along Z (or T), Y, X."""
        z, y, x = (int(box.value) for box in self.boxes)
        return z, y, x

    def fit(self, largest: tuple[int, int, int]) -> None:
        """Lower the numbers to what an image allows."""
        with self.changed.blocked():
            for box, n in zip(self.boxes, largest, strict=True):
                box.value = min(box.value, n)

    def show_depth(self, depth_axis: DepthAxis) -> None:
        """Show the first number, under the name of the depth axis, only where there is one."""
        first = self.boxes[0]
        first.visible = depth_axis != "none"
        first.label = depth_axis if depth_axis != "none" else "Z"


class PatchesPart(Container[Widget]):
    """Depth axis, size, overlap and edges of the patches."""

    def __init__(self) -> None:
        self.depth_axis = RadioButtons(
            label="Depth axis",
            choices=list(DEPTH_AXES),
            orientation="horizontal",
            tooltip="The third axis of a patch; the others become samples.",
        )
        self.depth_axis.value = "none"
        self.size = SizeRow("Patch size", (8, 64, 64), 1, "Pixels along each axis of a patch.")
        self.overlap = SizeRow("Overlap", (0, 0, 0), 0, "Pixels shared by neighbouring patches.")
        self.edge = ComboBox(
            label="Edges",
            choices=[
                ("shift the last patch", "shift"),
                ("spread evenly", "balance"),
                ("drop what does not fit", "drop"),
                ("pad by reflection", "pad"),
            ],
            tooltip="What to do where the grid does not fit the image.",
        )
        widgets = [self.depth_axis, self.size, self.overlap, self.edge]
        super().__init__(widgets=widgets, labels=True)
        self.margins = (0, 0, 0, 0)

    def offer_depth_axes(self, reasons: dict[DepthAxis, str]) -> None:
        """Disable the depth axes that have a reason against them, and say it."""
        for button in self.depth_axis.native.findChildren(QRadioButton):
            reason = reasons.get(button.text(), "")
            button.setEnabled(not reason)
            button.setToolTip(reason)
        if reasons.get(self.depth_axis.value):
            self.depth_axis.value = "none"


class ExportPart(Container[Widget]):
    """Where to, go, how far, stop, and open what came out."""

    def __init__(self) -> None:
        self.all_scenes = CheckBox(text="All scenes of the file", value=False)
        self.out = FileEdit(
            label="Save as",
            mode=FileDialogMode.OPTIONAL_FILE,
            filter=f"*{SUFFIX}",
            nullable=True,
            tooltip=f"The folder to write, NAME{SUFFIX}.",
        )
        self.start = PushButton(text="Export", tooltip="Write the patch set.")
        self.cancel = PushButton(
            text="Cancel", tooltip="Stop; the same export goes on where it stopped.", enabled=False
        )
        self.open = PushButton(text="Open it", tooltip="Show the patches as layers.", enabled=False)
        buttons = Container(
            widgets=[self.start, self.cancel, self.open], layout="horizontal", labels=False
        )
        buttons.margins = (0, 0, 0, 0)
        self.progress = ProgressBar(value=0, min=0, max=1, visible=False)
        self.status = Label(value="")
        widgets = [self.all_scenes, self.out, buttons, self.progress, self.status]
        super().__init__(widgets=widgets, labels=True)
        self.margins = (0, 0, 0, 0)

    @property
    def destination(self) -> str:
        """The path to write, "" if none is chosen."""
        value = self.out.value
        return "" if value is None or value == Path() else str(value)

    def show_running(self, running: bool) -> None:
        """Enable what makes sense while an export runs, or does not."""
        self.start.enabled = self.out.enabled = self.all_scenes.enabled = not running
        self.cancel.enabled = self.progress.visible = running
