"""Fixtures for all tests: made CZI files, the real files, and no leaks."""

import gc
import os
import shutil
import stat
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

from support import export_makers
from support.czi_maker import MakeCzi, SceneSpec, make_czi
from support.realdata import MISSING, find_data, truths

settings.register_profile(
    "slow machines too",
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
settings.load_profile("slow machines too")

PATIENCE_S = 30
"""How long what has ended may take to let go of a file or a thread."""


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
    from support.window import Window  # it imports napari, which most tests need not

    window = Window(make_napari_viewer(show=True), qtbot)
    yield window
    window.close()


@pytest.fixture
def file(czi: MakeCzi) -> Path:
    """Write a file of two scenes with T, Z and two channels, `window.SCENES`."""
    from support.window import SCENES, XML

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
def small_shards() -> Iterator[None]:
    """Put 8 patches of 2 x 16 x 16 uint16 into a shard."""
    with export_makers.small_shards():
        yield


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """Give the folder of real files, or skip."""
    folder = find_data()
    if folder is None:
        pytest.skip(MISSING)
    return folder


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
    before, until = _open_files(), time.monotonic() + PATIENCE_S
    yield
    while (left := _open_files() - before) and time.monotonic() < until:
        gc.collect()
        time.sleep(0.05)
    assert not left, f"left open: {sorted(left.elements())}"


@pytest.fixture(autouse=True)
def _no_threads_left() -> Iterator[None]:
    """Fail a test that leaves a thread which would keep the process alive."""
    before = set(threading.enumerate())
    yield
    left = [thread for thread in threading.enumerate() if thread not in before]
    left = [t for t in left if not t.daemon and not t.name.startswith(FOREIGN_THREADS)]
    for thread in left:
        thread.join(timeout=PATIENCE_S)
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
