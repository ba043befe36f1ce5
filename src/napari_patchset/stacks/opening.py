"""Open a file of any format, recognised by content, then by suffix: the one table of formats."""

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

from napari_patchset.axes import DepthAxis
from napari_patchset.errors import ArgumentError, UnknownAxesError, UnreadableFileError
from napari_patchset.source import PixelSize, SceneId, is_remote, local_path, split_source
from napari_patchset.stacks.cache import FileCache
from napari_patchset.stacks.czi.directory import is_czi
from napari_patchset.stacks.czi.scenes import read_scenes
from napari_patchset.stacks.czi.stack import open_czi
from napari_patchset.stacks.metadata import (
    SceneSummary,
    only_scene,
    override_metadata,
    parse_pixel_size,
)
from napari_patchset.stacks.protocol import ClosableStack
from napari_patchset.stacks.sequence import SequenceAxis, SequenceStack
from napari_patchset.stacks.tiff.ome import is_companion
from napari_patchset.stacks.tiff.series import series_index
from napari_patchset.stacks.tiff.stack import TiffImageStack
from napari_patchset.stacks.tiff.structure import is_tiff
from napari_patchset.stacks.zarr.store import is_zarr, is_zipped_zarr

ZIP_SUFFIX = ".zip"
"""A zip archive may hold a zarr, or anything: its content decides."""


class FileFormat(NamedTuple):
    """A file format."""

    name: str
    suffixes: tuple[str, ...]
    recognises: Callable[[Path, bytes], bool]
    """Return whether path and first bytes (b"" for a folder) are of this format."""
    scenes: Callable[[Path], list[SceneSummary]]
    open: Callable[..., ClosableStack]
    """Opens a path's scene with a depth axis and, if `takes_axes`, with an override of axes."""
    labels: Callable[[Path, SceneId | None], Sequence[SceneId]] = lambda *_: ()
    """Lists the label images of a scene, each by the id that opens it."""
    files: Callable[[Path], Sequence[Path]] = lambda path: (path,)
    """Lists the files that are opened as one with a file."""
    takes_axes: bool = True
    absent: Callable[[Path], Sequence[str]] = lambda _: ()
    """Return the names of missing parts: files of a set, images of a plate."""


def _lazy(module: str, name: str) -> Callable[..., Any]:
    """Return a function that imports its module when called: zarr and its models are slow."""

    def call(*args: Any, **options: Any) -> Any:
        return getattr(import_module(f"napari_patchset.stacks.{module}"), name)(*args, **options)

    return call


TIFF_SUFFIXES = (".tf2", ".tf8", ".btf", ".lsm", ".stk", ".svs", ".ndpi", ".scn", ".qptiff", ".bif")
"""Suffixes of BigTIFFs, and of microscopes' and slide scanners' own kinds of TIFF."""

_ZARR = FileFormat(
    "zarr",
    (".zarr", ".ozx"),
    lambda path, head: is_zipped_zarr(path, head) if head else is_zarr(path),
    _lazy("zarr.scenes", "zarr_scenes"),
    _lazy("zarr.stack", "open_zarr"),
    _lazy("zarr.scenes", "zarr_labels"),
    absent=_lazy("zarr.scenes", "zarr_absent"),
)
FILE_FORMATS: tuple[FileFormat, ...] = (
    FileFormat(
        "CZI",
        (".czi",),
        lambda _, head: is_czi(head),
        lambda path: read_scenes(path).summaries(),
        open_czi,
        files=lambda path: read_scenes(path).files,
        absent=lambda path: read_scenes(path).absent,
        takes_axes=False,
    ),
    FileFormat(
        "TIFF",
        (".tif", ".tiff", ".ome", *TIFF_SUFFIXES),
        lambda path, head: is_tiff(head) or is_companion(path, head),
        lambda path: series_index(path).summaries(),
        TiffImageStack,
        files=lambda path: series_index(path).files(),
        absent=lambda path: series_index(path).description.absent,
    ),
    _ZARR,
)

IMAGE_SUFFIXES = frozenset(suffix for each in FILE_FORMATS for suffix in each.suffixes)
"""Of the names of all files that are read, in small letters."""

_FORMAT_OF_FILE: FileCache[FileFormat] = FileCache(256)


def find_format(path: Path) -> FileFormat:
    """Find the format of a file or folder by its content, else by its suffix."""
    return _recognise(path, b"") if path.is_dir() else _FORMAT_OF_FILE.get(path, _recognise_file)


def _locate(path: str | Path) -> tuple[FileFormat, Any]:
    """Return the format of a file or URL, and its path without "file://"."""
    if is_remote(path):
        return _ZARR, str(path)
    path = Path(local_path(str(path)))
    return find_format(path), path


def _recognise_file(path: Path) -> FileFormat:
    with path.open("rb", 0) as file:
        return _recognise(path, file.read(16))


def _recognise(path: Path, head: bytes) -> FileFormat:
    for file_format in FILE_FORMATS:
        if file_format.recognises(path, head):
            return file_format
    for file_format in FILE_FORMATS:
        if path.suffix.lower() in file_format.suffixes:
            return file_format
    supported = ", ".join(each.name for each in FILE_FORMATS)
    if path.suffix.lower() == ZIP_SUFFIX:
        raise UnreadableFileError(f"{path}: there is no zarr in this archive, or it is damaged.")
    raise UnreadableFileError(
        f"{path}: {path.suffix or 'such'} files can't be read; {supported} can. Open it in napari "
        "with a plugin and use the layer, or convert it to OME-TIFF."
    )


def list_scenes(path: str | Path) -> list[SceneSummary]:
    """List the scenes of a file, without reading a pixel.

    Parameters
    ----------
    path : str or Path
        The file or zarr folder, or the URL of a zarr store.

    Returns
    -------
    list of SceneSummary
        Id, name, position and size of each; a file without scenes has one, of the id None.

    Raises
    ------
    FileNotFoundError, PermissionError
        As the system reports it.
    UnreadableFileError
        If the file is damaged or of a kind that can't be read.
    """
    file_format, located = _locate(path)
    return file_format.scenes(located)


def scene_ids(path: str | Path, scene: SceneId | None = None) -> list[SceneId | None]:
    """Return the ids of a file's scenes, or only that of one scene, which must be there."""
    ids = [summary.id for summary in list_scenes(path)]
    if scene is None:
        return ids
    if scene not in ids and str(scene) in ids:  # a number that names an image of a zarr
        return [str(scene)]
    if scene not in ids:
        if ids == [None]:
            raise ArgumentError(
                f"{path}: there is no scene {scene}; it is a single image, so name no scene."
            )
        listed = ", ".join(map(str, ids))
        raise ArgumentError(f"{path}: there is no scene {scene}; its scenes are {listed}.")
    return [scene]


def list_labels(path: Path, scene: SceneId | None = None) -> Sequence[SceneId]:
    """List the label images of a scene, each by the id by which `open_stack` opens it."""
    return find_format(path).labels(path, scene)


def list_files(path: str | Path) -> Sequence[Path]:
    """List the existing files that are opened as one with a file."""
    file_format, located = _locate(path)
    return () if is_remote(path) else file_format.files(located)


def list_absent(path: str | Path) -> Sequence[str]:
    """Return the names of missing parts: files of its set, wells and fields of a plate."""
    file_format, located = _locate(path)
    return file_format.absent(located)


def open_stack(
    path: str | Path,
    scene: SceneId | None = None,
    depth_axis: DepthAxis = "none",
    *,
    axes: str | None = None,
    pixel_size: PixelSize | str | float | Sequence[float] | None = None,
    channel_names: Sequence[str] | None = None,
    sequence: SequenceAxis | None = None,
    files: Sequence[str | Path] = (),
) -> ClosableStack:
    """Open one scene of a file as a stack.

    Axes, pixel size and channel names override those of the file.

    Parameters
    ----------
    path : str or Path
        The file or zarr folder; "name.czi@3" chooses scene 3. A URL is taken for a zarr store,
        read through fsspec (the extra "remote").
    scene : int, str or None
        The file's own id of the scene; None for the only one.
    depth_axis : {"none", "Z", "T"}
        The axis that becomes the third one of a patch.
    axes : str or None
        A letter for each dimension of the image of more than one plane, such as "ZYX".
    pixel_size : PixelSize, number, str or sequence, or None
        In micrometres: 0.2 for Y and X, (1, 0.2, 0.2) for Z, Y, X.
    channel_names : sequence of str, or None
        One for each channel.
    sequence : {"T", "Z", "C"} or None
        The axis along which `files` follow each other as one image.
    files : sequence of str or Path
        All files of a sequence, `path` among them.

    Raises
    ------
    ValueError
        If the file has several scenes and none is chosen, listing them; if there is no such
        scene; if the file can't be read; if an override does not fit it.
    RuntimeError
        If the scene does not contain the depth axis.
    """
    size = None if pixel_size is None else parse_pixel_size(pixel_size)
    with ExitStack() as on_error:
        stack: ClosableStack
        if sequence is None:
            stack = _open(*split_source(path, scene), depth_axis, axes)
        else:
            depth: DepthAxis = "none" if sequence == depth_axis else depth_axis
            parts = []
            for file in files or [path]:
                parts.append(_open(*split_source(file, scene), depth, axes))
                on_error.callback(parts[-1].close)
            stack = SequenceStack(parts, sequence, depth_axis)
        on_error.callback(stack.close)
        if size is not None or channel_names is not None:
            override_metadata(stack, size, channel_names)
        on_error.pop_all()
    return stack


def _open(
    path: str | Path, scene: SceneId | None, depth_axis: DepthAxis, axes: str | None
) -> ClosableStack:
    if isinstance(path, str):
        return _ZARR.open(path, scene, depth_axis, axes=axes)
    file_format = find_format(path)
    if scene is None:
        try:
            scene = only_scene(path, file_format.scenes(path))
        except UnknownAxesError:  # which the user may state
            if axes is None:
                raise
    if axes is None:
        return file_format.open(path, scene, depth_axis)
    if not file_format.takes_axes:
        raise ArgumentError(
            f"{path}: a {file_format.name} states its axes; name no others ({axes})."
        )
    return file_format.open(path, scene, depth_axis, axes=axes)
