"""Use one file as the window and the command would: list, open, show, export; then judge."""

import ctypes
import hashlib
import shutil
import traceback
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from napari_patchset import ExportPlan, Random, export, list_scenes, open_stack
from napari_patchset.errors import PatchsetError, UnreadableFileError
from napari_patchset.plugin.layers.scene import scene_layers
from napari_patchset.plugin.overrides import source_ref

_SCENES = 2
_VIEW = 512
_M_PERTURB = -6


class Outcome(NamedTuple):
    """What came of a file: its kind, and the error or what is wrong."""

    kind: str
    detail: str = ""

    @property
    def is_defect(self) -> bool:
        """Whether the file was neither read right nor refused by one named error."""
        return self.kind not in ("same", "changed", "refused")


class WrongPixels(Exception):
    """Two ways of reading the same pixels do not agree."""


def judge(path: Path, out: Path, original: dict[str, str] | None) -> Outcome:
    """Use a file and return whether it was read right, or refused by one error that names it.

    Parameters
    ----------
    path : Path
        The file.
    out : Path
        Folder to export into; it is emptied.
    original : dict or None
        What `use` returned for the sound file, None where this is the sound file.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            digests = use(path, out)
    except WrongPixels as error:
        return Outcome("wrong pixels", str(error))
    except (PatchsetError, OSError) as error:
        detail = f"{type(error).__name__}: {error}"
        of_file = isinstance(error, (UnreadableFileError, OSError))
        return Outcome("unnamed" if of_file and path.name not in detail else "refused", detail)
    except Exception:
        return Outcome("wrong exception", traceback.format_exc(limit=-4))
    finally:
        shutil.rmtree(out, ignore_errors=True)
    return Outcome("same" if original in (None, digests) else "changed")


def use(path: Path, out: Path) -> dict[str, str]:
    """List, open, show and export a file; return a digest of the shown pixels of each scene.

    Raises
    ------
    WrongPixels
        If pixels differ between two readings, between showing and extracting, or from what was
        exported.
    """
    digests = {}
    for scene in list_scenes(path)[:_SCENES]:
        first, second = (_shown(path, scene.id, fill) for fill in (0x55, 0xAA))
        for name, pixels in first.items():
            if not np.array_equal(pixels, second[name], equal_nan=pixels.dtype.kind in "fc"):
                raise WrongPixels(f"{name} of scene {scene.id} differs from reading to reading")
        _export(path, scene.id, out / f"{len(digests)}.patches.zarr")
        digests[str(scene.id)] = _digest(first)
    return digests


def _shown(path: Path, scene: Any, fill: int) -> dict[str, NDArray[Any]]:
    """Read what napari would show of each layer, all of it or the middle, at every resolution."""
    # Memory that a decoder leaves as it found it differs from reading to reading.
    ctypes.CDLL(None).mallopt(_M_PERTURB, fill)
    digests = {}
    for data, options, _ in scene_layers(source_ref(path, scene)):
        for number, level in enumerate(data if isinstance(data, list) else [data]):
            digests[f"{options['name']}, level {number}"] = np.asarray(level[_middle(level.shape)])
    return digests


def _middle(shape: Sequence[int]) -> tuple[int | slice, ...]:
    n_outer = len(shape) - (3 if shape[-1] == 3 else 2)
    outer = [n // 2 for n in shape[:n_outer]]
    return (*outer, *(slice(max(0, n // 2 - _VIEW), n // 2 + _VIEW) for n in shape[n_outer:]))


def _digest(shown: dict[str, NDArray[Any]]) -> str:
    digest = hashlib.blake2b(digest_size=8)
    for name, pixels in shown.items():
        digest.update(f"{name}{pixels.dtype}{pixels.shape}".encode() + pixels.tobytes())
    return digest.hexdigest()


def _export(path: Path, scene: Any, out: Path) -> None:
    """Export a few patches and hold each against `extract_patch`."""
    source = {"path": str(path), "scene": scene}
    strategy = Random(size=(16, 16), count=4, per="total", small="skip")
    plan = ExportPlan(sources=[source], strategy=strategy, out=out)
    made = export(plan, workers=1)
    with open_stack(path, scene) as stack:
        rows = made.table.to_pylist()
        for patch, row in zip(made["all"], rows, strict=True):
            start = (row["y_start"], row["x_start"])
            expected = stack.extract_patch(row["sample"], None, start, (16, 16))
            if expected.tobytes() != patch.tobytes():
                raise WrongPixels(f"scene {scene}: the patch at {start} differs from the stack's")
        made.close()
