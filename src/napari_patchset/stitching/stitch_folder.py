"""NAME.ome.zarr.partial: the folder of a stitching that is not complete, by which it is resumed.

stitching.json          the plan: set, predictions and blend
predictions/SPLIT.npy   predictions that came as arrays, and SPLIT.rows.npy: which ones
image/                  the OME-Zarr as it grows
done/LEVEL/I.json       shard I of a level is written, with its share and range of values

Lock, stop and the rest are those of a `JobFolder`. An OME-Zarr is replaced only if its attributes
say that it was stitched.
"""

import os
import re
import shlex
from pathlib import Path
from typing import Any, Self

import numpy as np
from pydantic import ConfigDict

from napari_patchset._model import Frozen
from napari_patchset.channels import format_channels
from napari_patchset.errors import ArgumentError, DestinationExistsError, ExportError
from napari_patchset.jobs.folder import OTHER_NAME, REPLACED, JobFolder, files_of_jobs
from napari_patchset.jobs.own_files import OwnFiles
from napari_patchset.patchset.files import read_json, write_file
from napari_patchset.patchset.layout import PARTIAL_SUFFIX
from napari_patchset.patchset.sharding import CodecName
from napari_patchset.source import local_path, path_text
from napari_patchset.stacks.cache import FileStat
from napari_patchset.stacks.fingerprint import file_key, text_key
from napari_patchset.stitching.blending import Blend
from napari_patchset.stitching.full_resolution import FullSize, Interpolation
from napari_patchset.stitching.ome_zarr import LABELS

SUFFIX = ".ome.zarr"
ATTRIBUTE = "patchset_stitching"
"""Key in the attributes of an OME-Zarr that was stitched."""

_ZARR_FOLDER = rf"((OME|labels|{LABELS}|c|[0-9]+)/)*(OME|labels|{LABELS}|c|[0-9]+)"
_ZARR_FILE = rf"({_ZARR_FOLDER}/)?(zarr[.]json|[0-9]+)"
_ZARR_DRAFT = rf"({_ZARR_FOLDER}/)?zarr[.][0-9a-f]{{32}}[.]partial"
"""A zarr.json that zarr is writing; a job that is killed leaves it behind."""


_N_SAMPLED = 64
"""Largest number of files of a folder that a fingerprint is made of."""


class PredictionFile(Frozen):
    """Predictions of a split, and what they were when the plan was made."""

    path: str
    """See `path_text`."""
    key: str
    """Digest of name, size and date of each file, and of fingerprints.

    A fingerprint alone does not tell two sparse masks apart. A digest of every byte does, but each
    stitching would read its predictions twice, for the few that resume; so another date counts as
    another prediction.
    """

    @classmethod
    def at(cls, path: Path) -> Self:
        """Describe what is at a path."""
        files = [path]
        if path.is_dir():
            files = sorted(
                Path(folder, name) for folder, _, names in os.walk(path) for name in names
            )
        stats = map(FileStat.from_file, files)
        seen = [
            f"{os.path.relpath(file, path)!a} {stat.size} {stat.mtime_ns}"
            for file, stat in zip(files, stats, strict=True)
        ]
        sampled = files[:: -(-len(files) // _N_SAMPLED)]
        return cls(path=path_text(path), key=text_key([*seen, *map(file_key, sampled)]))


class StitchPlan(Frozen):
    """The predictions that are stitched, and the options.

    Attributes
    ----------
    patch_set, table_digest : str
        The set (see `path_text`), and the digest of its table.
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
    interpolation : {"nearest", "linear"} or None
        How images are brought to the size of their sources; None to leave them as the set has them.
    full_sizes : tuple of FullSize or None
        Of each source; None for one that was not resampled. Empty without interpolation.
    """

    model_config = ConfigDict(ser_json_inf_nan="constants")  # fill may be NaN

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
    interpolation: Interpolation | None = None
    full_sizes: tuple[FullSize | None, ...] = ()

    def command(self, out: Path) -> str:
        """Return the command that stitches by this plan; it replaces what is there, as begun."""
        paths = [f"{split}={local_path(file.path)}" for split, file in self.predictions.items()]
        return shlex.join(
            [
                *("patchset", "stitch", local_path(self.patch_set)),
                *(word for path in paths for word in ("--predictions", path)),
                *("--out", str(out), "--blend", self.blend, "--fill", str(self.fill)),
                *("--channel-names", format_channels(self.channels), "--codec", self.codec),
                *(["--argmax"] if self.argmax else []),
                *(["--full-resolution", self.interpolation] if self.interpolation else []),
                *(["--overwrite"] if out.exists() else []),
            ]
        )


class StitchedShard(Frozen):
    """The done marker of a shard: what was written of it.

    Attributes
    ----------
    covered : int
        Pixels that a patch covers.
    nan : int
        Those of them that are not a number in some channel, as predictions are.
    low, high : tuple of float or None
        Range of each channel's finite values there; None if there are none.
    """

    covered: int
    nan: int = 0
    low: tuple[float | None, ...]
    high: tuple[float | None, ...]


class StitchFolder(JobFolder[StitchPlan]):
    """The folder NAME.ome.zarr.partial of an unfinished stitching."""

    KIND, SUFFIX, PLAN, RESULT = "stitching", SUFFIX + PARTIAL_SUFFIX, "stitching.json", "image"
    FILES = files_of_jobs(
        "an unfinished stitching",
        r"stitching[.]json|done/[0-9]+/[0-9]+[.]json"
        rf"|predictions/(all|train|val)([.]rows)?[.]npy|(image|{REPLACED})/({_ZARR_FILE}|{_ZARR_DRAFT})",
        rf"image|done(/[0-9]+)?|predictions|(image|{REPLACED})/{_ZARR_FOLDER}",
    )

    def __init__(self, root: Path, token: str | None = None) -> None:
        super().__init__(root, token)
        self.out = root.with_name(root.name.removesuffix(PARTIAL_SUFFIX))

    @classmethod
    def for_image(cls, out: Path) -> Self:
        """Return the folder in which the OME-Zarr `out` is written."""
        return cls(out.with_name(out.name + PARTIAL_SUFFIX))

    @classmethod
    def for_name(cls, out: str | Path) -> Self:
        """Return the folder of an OME-Zarr by any name; raise ArgumentError without its suffix."""
        path = Path(os.path.abspath(out))
        if not path.name.endswith(SUFFIX) or path.name == SUFFIX:
            raise ArgumentError(f"{out}: the name of a stitched image ends with {SUFFIX}.")
        return cls.for_image(path)

    def _parse_plan(self, data: bytes) -> StitchPlan:
        return StitchPlan.model_validate_json(data)

    def _name_of(self, result: Path) -> Path | None:
        return self.out if _is_stitched(result) else None

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

    def readable_plan(self) -> StitchPlan | None:
        """Read the plan, None if there is none, or one that can't be read."""
        try:
            return self.find_plan()
        except ExportError:
            return None

    def has_plan(self, plan: StitchPlan) -> bool:
        """Return whether the plan is this one; NaN, as a fill value, equals itself."""
        own = self.readable_plan()
        return own is not None and own.model_dump_json() == plan.model_dump_json()

    @property
    def is_in_place(self) -> bool:
        """Whether the OME-Zarr is complete under its name, and only this folder remains."""
        return super().is_in_place and self.out.exists()

    def stitched(self) -> dict[str, Any]:
        """Return what the attributes of the complete OME-Zarr say of its stitching."""
        attributes: dict[str, Any] = read_json(self.out / "zarr.json")["attributes"][ATTRIBUTE]
        return attributes

    @property
    def has_shards(self) -> bool:
        """Whether a shard of a plan is written, so that there is something to resume."""
        return self.is_planned and any(self.root.glob("done/*/*.json"))

    def check_not_begun(self, plan: StitchPlan | None = None) -> None:
        """Raise an error if a shard of an unfinished stitching is written here.

        `plan`, if it is known, is the one that was to be carried out.
        """
        if not self.has_shards:
            return
        begun = self.plan().predictions.values()  # or raise that it can't be read
        keys = {file.path: file.key for file in begun}
        for file in plan.predictions.values() if plan is not None else ():
            if keys.get(file.path, file.key) != file.key:
                raise DestinationExistsError(
                    f"{local_path(file.path)} has changed since the stitching in {self.root} "
                    "began; choose another name, or delete that folder."
                )
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
        self.check_only_own_files()
        if not os.path.lexists(self.out):
            return
        if self.out.is_symlink() or not _is_stitched(self.out):
            raise ExportError(f"{self.out} exists, and was not stitched; {OTHER_NAME}.")
        _IMAGE.check_only(self.out)
        if not overwrite:
            raise DestinationExistsError(f"{self.out} exists; choose another name or delete it.")

    def remove_drafts(self) -> None:
        """Remove what killed jobs did not write to the end from the OME-Zarr."""
        is_file = re.compile(_ZARR_FILE).fullmatch
        for path in self.result.rglob("*"):
            if path.is_file() and not is_file(path.relative_to(self.result).as_posix()):
                path.unlink()


_IMAGE = OwnFiles(
    "a stitched image", re.compile(_ZARR_FILE).fullmatch, re.compile(_ZARR_FOLDER).fullmatch
)


def _is_stitched(path: Path) -> bool:
    return ATTRIBUTE in (read_json(path / "zarr.json").get("attributes") or {})
