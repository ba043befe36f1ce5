"""What an export does in background threads: patches, if their name is free, and files of plans."""

from collections.abc import Generator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from shutil import rmtree
from threading import Event
from typing import Any

from napari_patchset.errors import ArgumentError, DestinationExistsError, ExportError
from napari_patchset.exporting.plans.command_line import command_line, without_option
from napari_patchset.exporting.plans.plan import ExportPlan
from napari_patchset.exporting.plans.samples import SampleSheet
from napari_patchset.exporting.run import iter_export
from napari_patchset.exporting.stages import Progress, is_prepared
from napari_patchset.exporting.writing.destination import check_destination
from napari_patchset.exporting.writing.workdir import WorkDir
from napari_patchset.jobs.folder import Stopped
from napari_patchset.patchset.writers import FORMATS
from napari_patchset.patchset.writers.base import SetFormat
from napari_patchset.plugin.dialogs import USER_ERRORS
from napari_patchset.plugin.layers.plan_layers import layers_folder, spool_layers
from napari_patchset.plugin.plan_preview import PlanPreview
from napari_patchset.plugin.planning import known_metrics
from napari_patchset.plugin.state import FormState, refresh_region


class Taken(Exception):
    """The name of the patch set is taken, and the user is asked what to do.

    Attributes
    ----------
    is_set : bool
        Whether it is taken by a patch set; else by an unfinished export.
    other : ExportPlan or None
        The unfinished export, None if it can't be continued.
    """

    def __init__(
        self, question: str, is_set: bool = False, other: ExportPlan | None = None
    ) -> None:
        super().__init__(question)
        self.is_set, self.other = is_set, other


@dataclass(frozen=True)
class Order:
    """What to export, and what may be replaced.

    Attributes
    ----------
    plan : ExportPlan or FormState
        The plan, or the form, of which the files are read again and layers are written into files.
    replaces : bool
        Whether a patch set of that name may be replaced.
    starts_over : bool
        Whether an unfinished export of that name is discarded.
    """

    plan: ExportPlan | FormState
    replaces: bool = False
    starts_over: bool = False

    @property
    def format(self) -> SetFormat:
        """The format of the patch set."""
        recipe = self.plan if isinstance(self.plan, ExportPlan) else self.plan.recipe
        return FORMATS[recipe.format]


def run_export(
    order: Order, planned: PlanPreview | None, memory: int, cancelled: Event
) -> Generator[Progress, None, Progress | None]:
    """Export the current content of the files; runs in a background thread.

    The metrics that the preview has measured are reused.

    Returns
    -------
    Progress or None
        The last event, None if the export was cancelled.

    Raises
    ------
    Taken
        If something has the name of the patch set that must not be replaced.
    """

    def check_cancelled() -> None:
        if cancelled.is_set():
            raise Stopped("The export was cancelled.")

    plan = order.plan if isinstance(order.plan, ExportPlan) else order.plan.plan()
    workdir, layers = WorkDir.for_set(plan.out), layers_folder(plan)
    check_destination(plan, overwrite=order.replaces)  # before layers are written
    if not order.replaces and Path(plan.out).exists() and not workdir.is_in_place:
        raise Taken(f"{Path(plan.out).name} exists already.", is_set=True)
    had_layers, metrics = layers.exists(), known_metrics(planned)
    try:
        if isinstance(order.plan, FormState):
            plan = spool_layers(_fresh_plan(order.plan), check_cancelled)
        if order.starts_over:
            with workdir.locked():
                workdir.discard()
        else:
            _check_unfinished(workdir, plan)
        options: dict[str, Any] = {"metrics": metrics, "memory": memory}
        with closing(iter_export(plan, overwrite=order.replaces, **options)) as events:
            for event in events:
                yield event
                if cancelled.is_set():
                    break
    except (*USER_ERRORS, Taken) as error:
        if not had_layers and (isinstance(error, Taken) or not workdir.root.exists()):
            rmtree(layers, ignore_errors=True)  # nothing refers to them
        raise
    return event if event.stage == "done" else None


def _check_unfinished(workdir: WorkDir, plan: ExportPlan) -> None:
    """Raise Taken if an unfinished export of another plan, or of changed images, is there."""
    name = Path(plan.out).name
    try:
        is_resumed = is_prepared(workdir, plan)
    except DestinationExistsError:
        frozen = workdir.plan()
        other = frozen.plan.model_copy(update={"sources": frozen.requested})
        question = f"An export of {name} with other settings is unfinished."
        raise Taken(question, other=other) from None
    except ExportError:
        raise Taken(f"An unfinished export of {name} can't be continued.") from None
    if is_resumed and (changed := workdir.plan().changed_files()):
        image = Path(next(iter(changed))).name
        raise Taken(f"{image} has changed since the export of {name} began.")


def _fresh_plan(state: FormState) -> ExportPlan:
    return refresh_region(state).plan()


def _written_plan(state: FormState) -> ExportPlan:
    return spool_layers(_fresh_plan(state))


def written_command(state: FormState, memory: int | None) -> str:
    """Return the command that runs a plan of files only.

    Raises
    ------
    ArgumentError
        If no command says all of it.
    """
    plan, samples = _written_plan(state), state.samples
    if samples:
        try:
            sources = SampleSheet.from_file(samples).assign(plan.sources)
        except (ArgumentError, OSError):  # the sheet is gone, or names layers
            samples = ""
        else:
            samples = samples if sources == plan.sources else ""
    if (line := command_line(plan, memory, samples)) is None:
        words = ", ".join(without_option(plan, samples))
        raise ArgumentError(
            f"A command can't say: {words}. Save the plan instead, and export that."
        )
    return line


def save_plan(state: FormState, path: Path) -> Path:
    """Write the plan of a form, whose layers are written into files first, and return the file."""
    plan = _written_plan(state).resolved()
    path.write_text(plan.model_dump_json(indent=1) + "\n", encoding="utf-8")
    return path
