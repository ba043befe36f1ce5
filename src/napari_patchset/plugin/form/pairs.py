"""Pairs: a target, labels and a mask beside the image, cut at the same places."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from magicgui.widgets import ComboBox, PushButton
from qtpy.QtWidgets import QFileDialog

from napari_patchset.export.refs import Beside
from napari_patchset.plugin.form.naming import labelled
from napari_patchset.plugin.form.rows import Part, Row

_TIPS: dict[Beside, str] = {
    "target": "The image that a network shall make of this one: denoised, deconvolved, ...",
    "labels": "The segmentation that belongs to the image.",
    "mask": "What the filter “mask” looks at; without one, the labels.",
}


class PairsPart(Part):
    """A file for each image that lies beside the one of the patches."""

    def __init__(self) -> None:
        self._open: Sequence[Path] = ()
        self._asked: dict[Beside, Path] = {}
        self.boxes: dict[Beside, ComboBox] = {}
        super().__init__([self._row(role, tip) for role, tip in _TIPS.items()])

    def offer(self, files: Sequence[Path]) -> None:
        """Offer the files that are open; what is chosen stays."""
        with self.changed.blocked():
            self._open = files
            self.load(self.value)

    @property
    def value(self) -> dict[Beside, Path]:
        """The file of each role that has one."""
        return {role: box.value for role, box in self.boxes.items() if box.value is not None}

    def load(self, chosen: Mapping[Beside, Path]) -> None:
        """Set a file for each role."""
        for role in self.boxes:
            self._choose(role, chosen.get(role))

    @property
    def said(self) -> str:
        """What is set, in a word."""
        return ", ".join(self.value) or "none"

    def _row(self, role: Beside, tip: str) -> Row:
        box = ComboBox(choices=lambda _: self._choices(role), nullable=True, tooltip=tip)
        ask = PushButton(text="…", tooltip=f"Choose the file of the {role}.")
        ask.native.setFixedWidth(28)
        ask.changed.connect(lambda: self._ask(role))
        self.boxes[role] = box
        return Row([box, ask], label=role.capitalize())

    def _choices(self, role: Beside) -> list[tuple[str, Path]]:
        asked = [self._asked[role]] if role in self._asked else []
        return labelled(list(dict.fromkeys([*self._open, *asked])))

    def _choose(self, role: Beside, file: Path | None) -> None:
        if file is not None:
            self._asked[role] = file
        box = self.boxes[role]
        box.reset_choices()
        box.value = file

    def _ask(self, role: Beside) -> None:
        name, _ = QFileDialog.getOpenFileName(self.native, f"The {role} of the image")
        if name:
            self._choose(role, Path(name))
