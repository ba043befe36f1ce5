"""Split: shares of the patches or folds, what they go by, and a samples sheet.

The sheet is a file that is chosen in a dialog, or what a loaded plan has of one. Its columns are
choices of what the split goes by.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

from magicgui.widgets import ComboBox, Label, Slider
from pydantic import ValidationError
from qtpy.QtWidgets import QAbstractSpinBox, QSizePolicy

from napari_patchset._model import user_message
from napari_patchset.errors import SplitError
from napari_patchset.exporting.plans.image_refs import SourceRef
from napari_patchset.exporting.plans.samples import SampleSheet
from napari_patchset.patching.splits.search import ANNOTATION, BY
from napari_patchset.patching.splits.sheet_columns import SPLIT_COLUMN, WELL, states_split
from napari_patchset.patching.splits.split import Split
from napari_patchset.plugin.dialogs import USER_ERRORS, ask_sheet, folder_of, message
from napari_patchset.plugin.form.fields import (
    Row,
    Section,
    choices,
    description,
    small_button,
)
from napari_patchset.plugin.form.numbers import MAX_INT, Percent, WholeNumber
from napari_patchset.plugin.napari_compat import theme_colors
from napari_patchset.plugin.worker import Worker

_BY = {
    "auto": "automatic",
    "file": "files",
    "scene": "scenes",
    "block": "blocks of the image",
    WELL: "wells",
    ANNOTATION: "outlines",
}
"""What a split goes by without a sheet, as the form calls it."""

_ALWAYS = ("auto", "file", "scene", "block")

_OF_PLAN = "the loaded plan"
"""The choice of what a loaded plan has of a sheet."""

_MOST_PERCENT = 99.99
"""Something is left to train."""

_MOST_FOLDS = 20
"""As many are offered; a plan may have more."""

Columns = Mapping[str, Sequence[str]]
"""The columns of a samples sheet, by name, and what they hold; "" in an empty cell."""


class SamplesRow(Row):
    """The choice of a samples sheet: a file, or what a loaded plan has of one."""

    def __init__(self) -> None:
        self._sheet: SampleSheet | None = None
        """The sheet that was read last."""
        self._columns: dict[str, Columns] = {}
        """What each choice holds, by the path of the sheet."""
        self._assigned: tuple[Any, ...] = ()
        """A sheet, sources, and these with their values: a form changes more often than they do."""
        self.reading = Worker()
        self.problem = ""
        """Why the file that was chosen last is no sheet."""
        self.image: Path | None = None
        """The image that is shown, beside which a sheet is looked for."""
        self.choice = ComboBox(
            choices=lambda _: self._choices(),
            nullable=True,
            tooltip="A table of what each image is of: a CSV with a line for each, its file name "
            "in the column source, and other columns such as animal or treatment. A column "
            "split with train, val or test is the split.",
        )
        self.choice.changed.connect(self._on_choice)  # before the form hears of it
        self.ask = small_button("…", "Choose a samples sheet; again, if it has changed.", width=28)
        super().__init__([self.choice, self.ask], label="Samples sheet (CSV)")
        self.ask.changed.connect(self._ask)
        self.reading.returned.connect(self._on_read)
        self.reading.failed.connect(self._on_failed)

    @property
    def columns(self) -> Columns:
        """The columns of the chosen sheet."""
        return self._columns.get(self.choice.value, {})

    @property
    def path(self) -> str:
        """The file of the chosen sheet, "" if there is none."""
        return "" if self.choice.value in (None, _OF_PLAN) else str(self.choice.value)

    def assign(
        self, sources: tuple[SourceRef, ...], names: Callable[[], Sequence[str]]
    ) -> tuple[SourceRef, ...]:
        """Return the sources with their values in the chosen sheet.

        Parameters
        ----------
        sources : tuple of SourceRef
            With the values that they have in the loaded plan.
        names : callable
            Return how the window names them.

        Raises
        ------
        SplitError
            If the sheet does not fit them.
        """
        if self._sheet and self.path:
            if self._assigned[:2] != (self._sheet, sources):
                self._assigned = self._sheet, sources, self._sheet.assign(sources, names())
            return cast("tuple[SourceRef, ...]", self._assigned[2])
        if self.choice.value == _OF_PLAN:
            return sources
        return tuple(map(SourceRef.without_columns, sources))

    def load(self, sources: Sequence[SourceRef]) -> None:
        """Choose what the sources of a plan have of a sheet."""
        self.reading.stop()
        self._columns.pop(_OF_PLAN, None)
        columns = _columns([dict(ref.columns) for ref in sources])
        self._choose(_OF_PLAN if columns else None, columns)

    def _choices(self) -> list[tuple[str, str]]:
        return [(_name(choice), choice) for choice in self._columns]

    def _on_choice(self) -> None:
        self.problem = ""

    def _ask(self) -> None:
        if (path := ask_sheet(self.native, folder_of(self.image))) is not None:
            self.reading.run(SampleSheet.from_file, path)

    def _on_read(self, sheet: SampleSheet) -> None:
        if self._sheet is not None:
            self._columns.pop(self._sheet.path, None)
        self._sheet = sheet
        self._choose(sheet.path, _columns([row.values for row in sheet.rows], sheet.columns))

    def _on_failed(self, error: Exception) -> None:
        if not isinstance(error, USER_ERRORS):
            raise error
        self.problem = message(error)
        self.changed.emit(self)

    def _choose(self, choice: str | None, columns: Columns) -> None:
        """Offer what there is and choose from it; a sheet that was read again is a change too."""
        self.problem = ""
        if choice is not None:
            self._columns[choice] = columns
        with self.choice.changed.blocked(), self.changed.blocked():
            self.choice.reset_choices()
            self.choice.value = choice
        self.changed.emit(self)


def _name(choice: str) -> str:
    return f"as in {choice}" if choice == _OF_PLAN else Path(choice).name


def _columns(rows: Sequence[Mapping[str, str]], names: Sequence[str] = ()) -> Columns:
    """Return rows as columns, those that are named and any others."""
    names = [*dict.fromkeys([*names, *(name for row in rows for name in row)])]
    return {name: [row.get(name, "") for row in rows] for name in names}


class SplitSection(Section):
    """Training, validation and test patches, which share no pixel."""

    def __init__(self) -> None:
        self.val = Percent(
            max=_MOST_PERCENT,
            label="Validation %",
            tooltip=f"{description(Split, 'val')} 0 for none.",
        )
        self.test = Percent(
            max=_MOST_PERCENT, label="Test %", tooltip=f"{description(Split, 'test')} 0 for none."
        )
        self._folds_of_plan = 0
        self.folds = ComboBox(
            label="Cross-validation",
            choices=self._fold_choices,
            tooltip=f"{description(Split, 'folds')} It takes the place of Validation %.",
        )
        self.by = ComboBox(
            label="Split by",
            choices=[],
            tooltip="What is never divided between splits. Automatic: the first of files, scenes "
            "and blocks of the image that comes near to the shares. A column of the samples sheet "
            "whose values are all train, val or test states the split.",
        )
        self.samples = SamplesRow()
        self.stratify = ComboBox(
            label="Same shares of", choices=[], tooltip=description(Split, "stratify")
        )
        self.seed = WholeNumber(
            value=0,
            min=0,
            max=MAX_INT,
            label="Random seed",
            tooltip="Another number puts other patches into validation and test; the same number "
            "gives the same split again.",
        )
        self.fold = Slider(
            label="Shown fold",
            max=0,
            tooltip="The fold whose patches validate in the preview; those of the others train.",
        )
        # Which would take 1.5 for 15.
        self.fold.native.findChild(QAbstractSpinBox).setReadOnly(True)
        self.problem = Label(value="", label=" ", visible=False)
        self.problem.native.setWordWrap(True)
        self.problem.native.setSizePolicy(
            QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Preferred
        )
        self._error = ""
        """Why the split can't be made."""
        self._units = set[str]()
        """What the image has of wells and outlines, to split by."""
        self._chosen_by, self._chosen_stratify = BY[0], ""
        """What the user or a plan chose, also while the sheet lacks it or states the split."""
        # Before the form hears of a change: a sheet may change what the split goes by.
        self.samples.changed.connect(self._offer)
        self.by.changed.connect(self._on_by)
        self.stratify.changed.connect(self._on_stratify)
        self.val.changed.connect(self._show)
        self.test.changed.connect(self._show)
        self.folds.changed.connect(self._show)
        super().__init__(
            [
                *(self.val, self.test, self.folds, self.samples, self.by),
                *(self.stratify, self.seed, self.fold),
                self.problem,  # last, or what is below would move under the mouse
            ]
        )
        self._offer()

    @property
    def value(self) -> Split | None:
        """The split; None for no split.

        Raises
        ------
        SplitError
            If the shares leave nothing to train, or there are none to split by a column.
        """
        by, shares = self.by.value, self._shares
        if not shares and by in BY:
            return None
        if not shares and by in self.samples.columns and not self._is_stated:
            raise SplitError(f"set a share for validation or a test, or folds, to split by {by}.")
        stratify = {"stratify": self.stratify.value or None} if shares else {}
        try:
            return Split.model_validate({"by": by, "seed": self.seed.value, **shares, **stratify})
        except ValidationError as error:
            raise SplitError(f"{user_message(error)}.") from None

    @property
    def _shares(self) -> dict[str, Any]:
        """The shares and folds that are set, by the name in a split."""
        if self._is_stated:
            return {}
        folds = self.folds.value
        shares = {
            "val": 0 if folds else self.val.fraction,
            "test": self.test.fraction,
            "folds": folds,
        }
        return {name: share for name, share in shares.items() if share}

    @property
    def _is_stated(self) -> bool:
        """Whether the column that the split goes by states it."""
        by, columns = self.by.value, self.samples.columns
        return by not in BY and by in columns and states_split(by, columns[by])

    def show_error(self, text: str) -> None:
        """Show why the split can't be made of the form's patches; "" if it can."""
        if text != self._error:
            self._error = text
            self._show()

    @property
    def shown_fold(self) -> int:
        """The fold whose patches validate in the preview."""
        return int(self.fold.value)

    def offer(self, unit: str, is_there: bool) -> None:
        """Offer to split by wells or outlines, if the image has any."""
        if is_there != (unit in self._units):
            self._units ^= {unit}
            self._offer()

    def load(self, split: Split | None) -> None:
        """Set the fields from a split."""
        self.val.load((split and split.val) or 0)
        self.test.load((split and split.test) or 0)
        self._folds_of_plan = (split and split.folds) or 0
        self.folds.reset_choices()
        self.folds.value = self._folds_of_plan
        self._chosen_by = split.by if split else BY[0]
        self._chosen_stratify = (split and split.stratify) or ""
        self.seed.value = split.seed if split else 0
        self._offer()

    @property
    def summary(self) -> str:
        """A short summary of the settings."""
        shares, by = self._shares, self.by.value
        if not shares and by in BY:
            return "none"
        if not shares and (self._is_stated or by not in self.samples.columns):
            return f"as the column {by} states"
        named = {"val": "validation", "test": "a test"}
        texts = [f"{100 * shares[n]:.4g} % for {what}" for n, what in named.items() if n in shares]
        texts += [f"{shares['folds']} folds"] if "folds" in shares else []
        return ", ".join([*texts, *([f"by {by}"] if by != BY[0] else [])])

    def _fold_choices(self, _: object) -> list[tuple[str, int]]:
        numbers = sorted({*range(2, _MOST_FOLDS + 1), self._folds_of_plan} - {0})
        return [("none", 0), *((f"{n} folds", n) for n in numbers)]

    def _on_by(self, by: str) -> None:
        self._chosen_by = by
        self._show()

    def _on_stratify(self, column: str) -> None:
        self._chosen_stratify = column

    def _offer(self) -> None:
        """Offer what the split can go by, and choose what was chosen of it."""
        columns = self.samples.columns
        own = [name for name in columns if name not in BY]
        by, stratify = self._chosen_by, self._chosen_stratify
        units = [unit for unit in (WELL, ANNOTATION) if unit in self._units or unit in columns]
        names = dict.fromkeys([*_ALWAYS, *units, *own, by])
        if SPLIT_COLUMN in columns:
            if by == SPLIT_COLUMN:  # of a plan; without the sheet there is no such split
                self._chosen_by = BY[0]
            names, by = {SPLIT_COLUMN: None}, SPLIT_COLUMN
        with self.by.changed.blocked(), self.stratify.changed.blocked():
            self.by.choices = choices(*((_BY.get(name, name), name) for name in names))
            self.by.value = by
            others = dict.fromkeys([*columns, *([stratify] if stratify else [])])
            self.stratify.choices = choices(("nothing", ""), *((name, name) for name in others))
            self.stratify.value = stratify
        self._show()

    def _show(self) -> None:
        problem = self.samples.problem or self._error
        self.problem.native.setStyleSheet(f"color: {theme_colors().error.name()}")
        self.problem.value, self.problem.visible = problem, bool(problem)
        shares, is_stated, columns = self._shares, self._is_stated, self.samples.columns
        # Disabled, not hidden: what is below would move under the mouse.
        self.val.enabled = not is_stated and "folds" not in shares
        self.test.enabled = self.folds.enabled = not is_stated
        self.by.visible = bool(shares or columns) or self.by.value not in BY
        self.stratify.visible = bool(shares and (columns or self.stratify.value))
        self.seed.visible = bool(shares)
        self.fold.max = max(0, shares.get("folds", 0) - 1)
        self.fold.visible = "folds" in shares
