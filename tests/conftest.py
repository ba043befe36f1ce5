"""Fixtures for all tests: made CZI files, the real files, and no leaks."""

import gc
import json
import os
import shutil
import stat
import sys
import tempfile
import threading
from collections import Counter
from collections.abc import Callable, Container, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

from czi_maker import MakeCzi, SceneSpec, make_czi
from napari_patchset.patchset import layout

settings.register_profile("slow machines too", deadline=None)
settings.load_profile("slow machines too")

REPOSITORY = Path(__file__).parents[1]
NO_DATA = "the real files are not here: set PATCHSET_DATA or put them into ../shared/data"


def pytest_configure(config: pytest.Config) -> None:
    """Keep napari's preferences to this run: napari saves them as soon as they change."""
    folder = tempfile.mkdtemp(prefix="patchset-settings-")
    os.environ["NAPARI_CONFIG"] = str(Path(folder) / "settings.yaml")
    config.add_cleanup(lambda: shutil.rmtree(folder, ignore_errors=True))


@pytest.fixture
def czi(tmp_path: Path) -> MakeCzi:
    """Write a CZI into the test's folder: `czi(SceneSpec(...), ..., tile=(16, 16))`."""

    def make(*scenes: SceneSpec, name: str = "image.czi", **options: Any) -> Path:
        return make_czi(tmp_path / name, scenes or (SceneSpec(),), **options)

    return make


@pytest.fixture
def window(make_napari_viewer: Any, qtbot: Any) -> Iterator[Any]:
    """Open a viewer with the widget docked, a `window.Window`."""
    from window import Window  # it imports napari, which most tests need not

    window = Window(make_napari_viewer(show=True), qtbot)
    yield window
    window.close()


@pytest.fixture
def file(czi: MakeCzi) -> Path:
    """Write a file of two scenes with T, Z and two channels, `window.SCENES`."""
    from window import SCENES, XML

    return czi(*SCENES, xml=XML, tile=(32, 32))


@pytest.fixture
def run(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> Callable[..., tuple[int, str, str]]:
    """Run the command in the test's folder and give exit code, output and error output."""
    from napari_patchset.cli import main

    monkeypatch.chdir(tmp_path)

    def run(*args: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["patchset", *map(str, args)])
        with pytest.raises(SystemExit) as ended:
            main()
        out, err = capsys.readouterr()
        code = ended.value.code
        return code if isinstance(code, int) else 0, out, err

    return run


@pytest.fixture
def small_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    """Put 8 patches of 2 x 16 x 16 uint16 into a shard."""
    monkeypatch.setattr(layout, "SHARD_BYTES", 8 * 2 * 16 * 16 * 2)


def find_data() -> Path | None:
    """Find the folder of real files."""
    folder = Path(os.environ.get("PATCHSET_DATA") or REPOSITORY.parent / "shared" / "data")
    return folder if (folder / "truth.json").is_file() else None


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """Give the folder of real files, or skip."""
    folder = find_data()
    if folder is None:
        pytest.skip(NO_DATA)
    return folder


def truths(kind: str, but: Container[str]) -> Sequence[Any]:
    """Give the entries of truth.json of one format ("czi", "tiff", ...) as parameters."""
    folder = find_data()
    if folder is None:
        return [pytest.param(None, marks=pytest.mark.skip(reason=NO_DATA))]
    files = json.loads((folder / "truth.json").read_text())["files"]
    files = [entry for entry in files if entry["format"] == kind and entry["file"] not in but]
    return [pytest.param(entry, id=entry["file"]) for entry in files]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run a test that asks for `czi_truth`, `tiff_truth`, ... on every such entry of truth.json.

    Files that stand in the module's REFUSED are left out.
    """
    for name in metafunc.fixturenames:
        kind, _, rest = name.partition("_")
        if rest == "truth":
            metafunc.parametrize(name, truths(kind, getattr(metafunc.module, "REFUSED", ())))


FOREIGN_FOLDERS = (
    *("/proc", "/dev", "/sys", "/usr", "/lib", "/etc", "/var/cache", "/memfd:", "/SYSV"),
    *{sys.prefix, sys.base_prefix, str(Path.home() / ".cache"), str(Path.home() / ".local")},
)
"""Fonts, libraries and caches that Qt, GL and the interpreter keep open."""

FOREIGN_THREADS = ("asyncio_", "ThreadPoolExecutor-zarr", "zarr", "Dask", "IO loop", "Profile")
"""Threads that zarr and dask start once and keep."""


@pytest.fixture(autouse=True)
def _no_open_files_left() -> Iterator[None]:
    """Fail a test that leaves a regular file open."""
    before = _open_files()
    yield
    if not _open_files() - before:
        return
    gc.collect()
    left = _open_files() - before
    assert not left, f"left open: {sorted(left.elements())}"


@pytest.fixture(autouse=True)
def _no_threads_left() -> Iterator[None]:
    """Fail a test that leaves a thread which would keep the process alive."""
    before = set(threading.enumerate())
    yield
    left = [thread for thread in threading.enumerate() if thread not in before]
    left = [t for t in left if not t.daemon and not t.name.startswith(FOREIGN_THREADS)]
    for thread in left:
        thread.join(timeout=2)
    alive = [thread.name for thread in left if thread.is_alive()]
    assert not alive, f"left running: {alive}"


def _open_files() -> Counter[str]:
    """Count this process' open regular files by path; none where the system has no /proc."""
    found: Counter[str] = Counter()
    folder = Path("/proc/self/fd")
    for link in folder.iterdir() if folder.is_dir() else ():
        try:
            target, mode = os.readlink(link), link.stat().st_mode
        except OSError:
            continue
        if stat.S_ISREG(mode) and not _is_foreign(target):
            found[target] += 1
    return found


def _is_foreign(target: str) -> bool:
    is_ours = target.startswith(tempfile.gettempdir()) and not target.startswith(sys.prefix)
    if is_ours:
        return False
    return target.startswith(FOREIGN_FOLDERS) or "font" in target.lower() or ".so" in target
