"""NAME.partial: an export that is under way. What lies here says that it is incomplete.

plan.json            the plan, and its sources as they were when it was made
candidates.parquet   every patch: stack, sample, start along (Z)YX
set/                 the patch set as it grows
shards/IMAGE/I.json  one sidecar for each shard that is written and synced
stop                 while this is there, jobs stop at the next patch
"""

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Self

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import ValidationError

from napari_patchset.errors import ExportError
from napari_patchset.export.plan import ExportPlan
from napari_patchset.model import Frozen
from napari_patchset.patching.grid import PatchGrid
from napari_patchset.patchset.layout import UNSPLIT, ArrayLayout, partial_path, shard_capacity
from napari_patchset.patchset.statistics import ChannelSums
from napari_patchset.source import SourceInfo


class FrozenPlan(Frozen):
    """A plan with its sources as they were when it was made."""

    plan: ExportPlan
    sources: tuple[SourceInfo, ...]
    size: tuple[int, ...]
    n_patches: int
    patches_per_shard: int
    dropped: dict[str, int]

    @classmethod
    def of(cls, plan: ExportPlan, sources: Sequence[SourceInfo], grid: PatchGrid) -> Self:
        """Freeze a plan with the sources and patches that belong to it."""
        shape = (len(sources[0].channels), *grid.size)
        return cls(
            plan=plan,
            sources=tuple(sources),
            size=grid.size,
            n_patches=len(grid),
            patches_per_shard=shard_capacity(shape, np.dtype(sources[0].dtype)),
            dropped=dict(grid.dropped),
        )

    @property
    def array(self) -> ArrayLayout:
        """The array to be written."""
        first = self.sources[0]
        return ArrayLayout(
            name=f"{UNSPLIT}/image",
            n=self.n_patches,
            patch_shape=(len(first.channels), *self.size),
            dtype=np.dtype(first.dtype),
            axes=first.layout.stack_axes,
            capacity=self.patches_per_shard,
        )


class ShardSidecar(Frozen):
    """What is kept of a written shard: the crc32c of each patch, the sums of each channel."""

    checksums: tuple[int, ...]
    sums: tuple[ChannelSums, ...]


class PartialExport:
    """The folder of an export that is under way."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.set = root / "set"
        self._stop = root / "stop"
        self._plan = root / "plan.json"
        self._candidates = root / "candidates.parquet"

    @classmethod
    def of(cls, plan: ExportPlan) -> "PartialExport":
        """Give the folder that belongs to a plan."""
        return cls(partial_path(Path(plan.out)))

    def freeze(self, frozen: FrozenPlan, grid: PatchGrid) -> None:
        """Write candidates and plan; the plan last, so that a plan has its candidates."""
        self.root.mkdir(parents=True, exist_ok=True)
        columns = {"stack": grid.stack, "sample": grid.sample}
        columns |= {f"start{axis}": grid.start[:, axis] for axis in range(grid.start.shape[1])}
        pq.write_table(pa.table(columns), self._candidates)
        draft = self._plan.with_suffix(".draft")
        draft.write_text(frozen.model_dump_json(indent=1), encoding="utf-8")
        draft.replace(self._plan)

    def frozen(self) -> FrozenPlan | None:
        """Read the plan, None if there is none."""
        try:
            return FrozenPlan.model_validate_json(self._plan.read_bytes())
        except FileNotFoundError:
            return None
        except ValidationError as error:
            raise ExportError(
                f"{self.root}: the plan in it can't be read; export with overwrite to begin anew."
            ) from error

    def candidates(self, frozen: FrozenPlan) -> PatchGrid:
        """Read the candidates."""
        table = pq.read_table(self._candidates)
        axes = range(len(frozen.size))
        start = np.stack([table[f"start{axis}"].to_numpy() for axis in axes], axis=1)
        return PatchGrid(frozen.size, table["stack"].to_numpy(), table["sample"].to_numpy(), start)

    def sidecar_path(self, array: ArrayLayout, shard: int) -> Path:
        """Give the file that says that a shard is written."""
        return self.root / "shards" / array.name / f"{shard}.json"

    def sidecar(self, array: ArrayLayout, shard: int) -> ShardSidecar | None:
        """Read a shard's sidecar, None if the shard is not written whole."""
        if not array.shard_path(self.set, shard).is_file():
            return None
        try:
            data = self.sidecar_path(array, shard).read_bytes()
            return ShardSidecar.model_validate_json(data)
        except (FileNotFoundError, ValidationError):
            return None

    def request_stop(self) -> None:
        """Ask every job, in whatever process or machine, to stop."""
        self._stop.touch()

    def clear_stop(self) -> None:
        """Let jobs run."""
        self._stop.unlink(missing_ok=True)

    @property
    def stop_requested(self) -> bool:
        """Whether jobs are to stop."""
        return self._stop.exists()

    def remove(self) -> None:
        """Delete the folder with all that is in it."""
        if self.root.exists():
            shutil.rmtree(self.root)
