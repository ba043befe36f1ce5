"""Which label images lie beside an image of a store."""

from napari_patchset.errors import UnreadableFileError
from napari_patchset.stacks.zarr.nodes import read_node
from napari_patchset.stacks.zarr.roots import Root


def label_paths(root: Root, image: str) -> list[str]:
    """Give the paths of the label images that an image lists; what can't be read is left out."""
    folder = root.join(image, "labels")
    try:
        node = read_node(root, folder)
        listed = node.ome.get("labels") if node else None
        names = listed if isinstance(listed, list) else []
        paths = [root.join(folder, name) for name in names if isinstance(name, str)]
        return [path for path in paths if read_node(root, path) is not None]
    except UnreadableFileError:
        return []
