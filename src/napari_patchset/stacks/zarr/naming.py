"""What an error calls a node of a store, and what zarr says of it."""

from zarr.storage import FsspecStore, LocalStore, StorePath

from napari_patchset.stacks.naming import FILE


def uri(node: StorePath) -> str:
    """Give a node's URI, absolute also where the store was opened by a relative path."""
    if isinstance(node.store, LocalStore):
        return f"{FILE}{(node.store.root.absolute() / node.path).as_posix()}"
    if isinstance(node.store, FsspecStore):
        return str(node.store.fs.unstrip_protocol(f"{node.store.path}/{node.path}")).rstrip("/")
    return str(node).rstrip("/")


def label(node: StorePath) -> str:
    """Name a node for an error: one on a disk by its path, another by its URI."""
    return without_schemes(uri(node))


def reason(error: Exception) -> str:
    """Say in one line why zarr failed, naming local files by their paths."""
    return without_schemes(str(error).partition("\n")[0].rstrip(".")) or type(error).__name__


def without_schemes(text: str) -> str:
    """Take off what zarr puts before the paths of local files."""
    return text.replace(FILE, "")
