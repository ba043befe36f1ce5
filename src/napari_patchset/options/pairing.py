"""Images of equal geometry beside the sources: targets, labels, masks."""

from collections.abc import Iterable, Sequence
from pathlib import Path

from napari_patchset.errors import ArgumentError
from napari_patchset.export.refs import ImageRef, SourceRef, choose_scenes
from napari_patchset.stacks.naming import is_remote, plain_path, split_source


def pair(sources: Iterable[SourceRef], role: str, path: str) -> list[SourceRef]:
    """Put the image at a path beside each source, in its own scene where there are several.

    A path stands for one file, or for a folder in which each source has a file of its name.

    Raises
    ------
    ArgumentError
        If a source has no image there, or several files would share one.
    """
    sources = list(sources)
    files = {ref.path for ref in sources}
    partners = {file: _partner(file, path) for file in files}
    if len(files) > len(set(partners.values())):
        raise ArgumentError(
            f"--{role} is {path}, one image for {len(files)} files; give a folder that holds a "
            "file of the same name for each of them."
        )
    images = {partner: _scenes(partner) for partner in partners.values()}
    found = [_choose(images[partners[ref.path]], ref, role) for ref in sources]
    return [ref.model_copy(update={role: one}) for ref, one in zip(sources, found, strict=True)]


def _partner(file: str, path: str) -> str:
    """Give the file of the same name in a folder, else the path itself."""
    if is_remote(path):
        return path
    path = plain_path(path)
    same_name = Path(path, Path(file).name)
    return str(same_name) if same_name.exists() else path


def _scenes(path: str) -> list[ImageRef]:
    """Give the images of a file, or the one that its name chooses."""
    file, chosen = split_source(path)
    return [ImageRef(path=str(file), scene=i) for i in choose_scenes(file, chosen)]


def _choose(images: Sequence[ImageRef], ref: SourceRef, role: str) -> ImageRef:
    """Take the only image, else the one of the source's scene."""
    found = [image for image in images if len(images) == 1 or image.scene == ref.scene]
    if not found:
        listed = ", ".join(map(str, images))
        raise ArgumentError(f"No {role} for {ref}: its images are {listed}.")
    return found[0]
