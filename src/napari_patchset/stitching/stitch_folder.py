"""NAME.ome.zarr.partial: the folder of a stitching that is not complete, by which it is resumed.

napari-patchset.lock    marks the folder as ours; see `jobs.folder`
stitching.json          the plan: set, predictions and blend
predictions/SPLIT.npy   predictions that came as arrays, and SPLIT.rows.npy: which ones
image/                  the OME-Zarr as it grows
replaced/               what it replaces, until it is removed
done/LEVEL/I.json       shard I of a level is written, with its share and range of values
running.TOKEN           while it exists, jobs with this token may write
stop                    while it exists, jobs stop

Only files of these names are ever removed, and an OME-Zarr is replaced only if its attributes say
that it was stitched.
"""

import os
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Self

import numpy as np
from pydantic import ValidationError

from napari_patchset._model import Frozen
from napari_patchset.errors import DestinationExistsError, ExportError
from napari_patchset.jobs.folder import JobFolder
from napari_patchset.jobs.lock import LOCK
from napari_patchset.jobs.own_files import is_litter
from napari_patchset.patchset.files import DRAFT_PATTERN, read_json, sync_folder, write_file
from napari_patchset.patchset.sharding import CodecName
from napari_patchset.stitching.blending import Blend
from napari_patchset.stitching.ome_zarr import LABELS

SUFFIX = ".ome.zarr"
PLAN = "stitching.json"
ATTRIBUTE = "patchset_stitching"
"""Key in the attributes of an OME-Zarr that was stitched."""

_ZARR_DRAFT = r"zarr[.][0-9a-f]{32}[.]partial"
"""zarr's own name of a zarr.json that is being written."""
_ZARR_FILE = rf"((OME|labels|{LABELS}|[0-9]+)/)*(zarr[.]json|{_ZARR_DRAFT}|(c/)?[0-9]+(/[0-9]+)*)"
_OWN_FILE = re.compile(
    rf"{re.escape(LOCK)}|stop|running[.][0-9a-f]{{32}}|{re.escape(PLAN)}|done/[0-9]+/[0-9]+[.]json"
    rf"|predictions/(all|train|val)([.]rows)?[.]npy|(image|replaced)/{_ZARR_FILE}"
)
_DRAFT = re.compile(rf"(?P<folder>^|/){DRAFT_PATTERN}$")


class PredictionFile(Frozen):
    """Predictions of a split, and what they were when the plan was made."""

    path: str
    modified_ns: int
    """Time of the last change of the file, or of the folder."""

    @classmethod
    def at(cls, path: Path) -> Self:
        """Describe what is at a path."""
        return cls(path=str(path), modified_ns=path.stat().st_mtime_ns)


class StitchPlan(Frozen):
    """The predictions that are stitched, and the options.

    Attributes
    ----------
    patch_set, table_digest : str
        The set, and the digest of its table.
    predictions : dict of str to PredictionFile
        By split.
    blend : {"crop", "average", "hann"}
        How overlapping predictions become one.
    fill : float
        Value of pixels that no patch covers.
    channels : tuple of str
        Names of the predicted channels.
    dtype : str
        NumPy's name of their type.
    factor : tuple of int
        Pixels of a prediction for each pixel of a patch, along (Z)YX.
    argmax : bool
        Write the channel with the highest prediction as a label image, too.
    codec : {"none", "zstd", "lz4"}
        Compression.
    """

    patch_set: str
    table_digest: str
    predictions: dict[str, PredictionFile]
    blend: Blend
    fill: float
    channels: tuple[str, ...]
    dtype: str
    factor: tuple[int, ...]
    argmax: bool
    codec: CodecName


class StitchedShard(Frozen):
    """The done marker of a shard: what was written of it.

    Attributes
    ----------
    covered : int
        Pixels that a patch covers.
    low, high : tuple of float or None
        Range of each channel's finite values there; None if there are none.
    """

    covered: int
    low: tuple[float | None, ...]
    high: tuple[float | None, ...]


class StitchFolder(JobFolder):
    """The folder of unfinished work for the OME-Zarr `out`."""

    def __init__(self, out: Path, token: str | None = None) -> None:
        super().__init__(out.with_name(f"{out.name}.partial"), token)
        self.out = out
        self.image = self.root / "image"
        self._plan = self.root / PLAN

    @classmethod
    def at(cls, root: Path, token: str | None = None) -> Self:
        """Return the folder at `root`; see `JobFolder` for the token."""
        return cls(root.with_name(root.name.removesuffix(".partial")), token)

    def find_plan(self) -> StitchPlan | None:
        """Read the plan, None if there is none."""
        try:
            return StitchPlan.model_validate_json(self._plan.read_bytes())
        except FileNotFoundError:
            return None
        except ValidationError as error:
            raise ExportError(
                f"{self.root}: its {PLAN} can't be read; stitch with overwrite to start over."
            ) from error

    def plan(self) -> StitchPlan:
        """Read the plan; raise ExportError if there is none."""
        plan = self.find_plan()
        if plan is None:
            raise ExportError(f"{self.root} has no plan; run the command again.")
        return plan

    def write_plan(self, plan: StitchPlan) -> None:
        """Write the plan, when all groups and arrays are there."""
        write_file(self._plan, [plan.model_dump_json(indent=1).encode()])

    def done_path(self, level: int, shard: int) -> Path:
        """Return the done marker of a shard."""
        return self.root / "done" / str(level) / f"{shard}.json"

    def mark_done(self, level: int, shard: int, done: StitchedShard) -> None:
        """Mark a shard as written, once it is synced."""
        write_file(self.done_path(level, shard), [done.model_dump_json().encode()])

    def read_done(self, level: int, shard: int) -> StitchedShard:
        """Read the done marker of a shard."""
        return StitchedShard.model_validate_json(self.done_path(level, shard).read_bytes())

    def missing(self, level: int, n: int) -> list[int]:
        """Return which of the `n` shards of a level are not written yet."""
        folder = self.root / "done" / str(level)
        done = set(os.listdir(folder)) if folder.is_dir() else set()
        return [shard for shard in range(n) if f"{shard}.json" not in done]

    def spool_path(self, split: str) -> Path:
        """Return where predictions that came as arrays are written."""
        return self.root / "predictions" / f"{split}.npy"

    def rows_path(self, split: str) -> Path:
        """Return where it is written which predictions came."""
        return self.root / "predictions" / f"{split}.rows.npy"

    def rows(self, split: str) -> "np.ndarray[tuple[int], np.dtype[np.bool_]] | None":
        """Return which patches of a split have predictions, None if all have."""
        path = self.rows_path(split)
        return np.load(path) if path.exists() else None

    @property
    def is_in_place(self) -> bool:
        """Whether the OME-Zarr is complete under its name, and only this folder remains."""
        return self._plan.exists() and self.out.exists() and not self.image.exists()

    def stitched(self) -> dict[str, Any]:
        """Return what the attributes of the complete OME-Zarr say of its stitching."""
        attributes: dict[str, Any] = read_json(self.out / "zarr.json")["attributes"][ATTRIBUTE]
        return attributes

    def check_not_begun(self) -> None:
        """Raise DestinationExistsError if a stitching is unfinished here."""
        if self.find_plan() is not None:
            raise DestinationExistsError(
                f"{self.root} holds an unfinished stitching of another plan; choose another name "
                "or delete it."
            )

    def check_free(self, overwrite: bool) -> None:
        """Refuse a name that is taken by anything that must not be replaced.

        Raises
        ------
        DestinationExistsError
            If an OME-Zarr that was stitched has the name, and `overwrite` is not set.
        ExportError
            If anything else has the name, or is in a folder that would be removed.
        """
        if self.root.is_symlink() or (self.root.exists() and not self._is_own()):
            raise ExportError(
                f"{self.root} exists, and is not an unfinished stitching; choose another name."
            )
        _check_own_files(self.root, "")
        if not os.path.lexists(self.out):
            return
        is_stitched = not self.out.is_symlink() and ATTRIBUTE in (
            read_json(self.out / "zarr.json").get("attributes") or {}
        )
        if not is_stitched:
            raise ExportError(f"{self.out} exists, and was not stitched; choose another name.")
        _check_own_files(self.out, "image/")
        if not overwrite:
            raise DestinationExistsError(f"{self.out} exists; choose another name or delete it.")

    def discard(self) -> None:
        """Remove an abandoned stitching; the plan first, so that no remainder is resumed."""
        self._plan.unlink(missing_ok=True)
        self.remove()

    def remove(self) -> None:
        """Remove what we wrote but the lock."""
        _remove_own_files(self.root, "")

    def rename_into_place(self) -> None:
        """Rename the complete OME-Zarr, without drafts of a killed job.

        What it replaces is moved aside first.
        """
        for _, path in _entries(self.image, ""):
            if _DRAFT.search(path.name) or re.fullmatch(_ZARR_DRAFT, path.name):
                path.unlink()
        if os.path.lexists(self.out):
            self.out.rename(self.root / "replaced")
        self.image.rename(self.out)
        sync_folder(self.out.parent)

    def _is_own(self) -> bool:
        try:
            names = os.listdir(self.root)
        except NotADirectoryError:
            return False
        return LOCK in names or PLAN in names or all(map(is_litter, names))


def _is_own_file(name: str) -> bool:
    return _OWN_FILE.fullmatch(_DRAFT.sub(r"\g<folder>\g<name>", name)) is not None


def _entries(folder: Path, prefix: str) -> Iterator[tuple[str, Path]]:
    """Yield everything below a folder, what is in folders first; links are not followed."""
    entries: Iterable[os.DirEntry[str]] = ()
    if folder.is_dir():
        with os.scandir(folder) as scanned:
            entries = list(scanned)
    for entry in entries:
        if entry.is_dir(follow_symlinks=False):
            yield from _entries(Path(entry.path), f"{prefix}{entry.name}/")
        yield prefix + entry.name, Path(entry.path)


def _check_own_files(root: Path, prefix: str) -> None:
    for name, path in _entries(root, prefix):
        is_folder = path.is_dir() and not path.is_symlink()
        if not is_folder and not (_is_own_file(name) or is_litter(name)):
            raise ExportError(
                f"{root} holds {path.name}, which patchset did not write: move it away, or choose "
                "another name."
            )


def _remove_own_files(root: Path, prefix: str) -> None:
    for name, path in _entries(root, prefix):
        if path.is_symlink() or name == LOCK:
            continue
        if path.is_dir():
            if not any(path.iterdir()):
                path.rmdir()
        elif _is_own_file(name) or is_litter(name):
            path.unlink()
