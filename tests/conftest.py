"""Fixtures for all tests: generated CZI files, the real files, and checks for leaks."""

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
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

from support import export_makers
from support.czi_maker import MakeCzi, SceneSpec, make_czi
from support.realdata import MISSING, find_data, truths

settings.register_profile(
    "local",
    deadline=None,  # a busy machine is no failure
    max_examples=20,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
settings.register_profile(
    "ci", settings.get_profile("local"), max_examples=100, derandomize=True, print_blob=True
)
settings.load_profile("ci" if os.environ.get("CI") else "local")

WINDOW_FIXTURES = {"make_napari_viewer", "make_napari_viewer_proxy", "qapp", "qtbot"}
"""A test that uses one of them, through other fixtures too, needs a display."""

TIMEOUT_S = 30
"""How long a thread or an open file of a test may outlive it."""


def pytest_configure(config: pytest.Config) -> None:
    """Return this run preferences of its own: napari saves them as soon as they change."""
    folder = tempfile.mkdtemp(prefix="patchset-settings-")
    os.environ["NAPARI_CONFIG"] = str(Path(folder) / "settings.yaml")
    os.environ["PATCHSET_CONFIG"] = os.devnull  # not the settings of who runs the tests
    gc.set_threshold(10_000, 20, 20)  # what must be gone is looked for with `gc.collect`
    config.add_cleanup(lambda: shutil.rmtree(folder, ignore_errors=True))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark every test that opens a window as `gui`."""
    for item in items:
        if WINDOW_FIXTURES & set(getattr(item, "fixturenames", ())):
            item.add_marker("gui")


@pytest.fixture
def czi(tmp_path: Path) -> MakeCzi:
    """Write a CZI into the test's folder: `czi(SceneSpec(...), ..., tile=(16, 16))`."""

    def make(*scenes: SceneSpec, name: str = "image.czi", **options: Any) -> Path:
        return make_czi(tmp_path / name, scenes or (SceneSpec(),), **options)

    return make


@pytest.fixture(scope="session")
def viewer(qapp: Any) -> Iterator[Any]:
    """Open the viewer that all tests with a `window` use, one after the other."""
    from support.window import shared_viewer  # it imports napari, which most tests need not

    with shared_viewer() as viewer:
        yield viewer


@pytest.fixture
def window(viewer: Any, qtbot: Any) -> Iterator[Any]:
    """Dock the widget in the shared viewer, a `window.Window`, and clear the viewer afterwards."""
    from support.window import Window

    gc.freeze()  # napari looks for garbage whenever layers are removed: in this test's objects only
    window = Window(viewer, qtbot)
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
    """Run the command in the test's folder and return exit code, output and error output."""
    from napari_patchset.cli import main

    monkeypatch.chdir(tmp_path)

    def run(*args: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["patchset", *map(str, args)])
        with pytest.raises(SystemExit) as exit_info:
            main()
        out, err = capsys.readouterr()
        code = exit_info.value.code
        return code if isinstance(code, int) else 0, out, err

    return run


@pytest.fixture(scope="session")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write the sample file where all workers find it: drawing it takes seconds."""
    from napari_patchset.sample import ensure_sample

    folder = tmp_path_factory.getbasetemp()
    is_worker = "PYTEST_XDIST_WORKER" in os.environ
    return ensure_sample((folder.parent if is_worker else folder) / "cells.czi")


@pytest.fixture(scope="session")
def spawned() -> Iterator[ProcessPoolExecutor]:
    """Return two processes that were spawned: what they import takes seconds, so all share them."""
    with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as pool:
        pool.submit(os.getpid).result()  # its thread is there before the first test
        yield pool


@pytest.fixture
def small_shards() -> Iterator[None]:
    """Limit a shard to 8 patches of 2 x 16 x 16 uint16."""
    with export_makers.small_shards():
        yield


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """Return the folder of real files, or skip the test."""
    folder = find_data()
    if folder is None:
        pytest.skip(MISSING)
    return folder


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run a test with an argument `czi_truth`, `tiff_truth`, ... on each such entry of truth.json.

    Files that the module's REFUSED lists are excluded.
    """
    for name in metafunc.fixturenames:
        kind, _, rest = name.partition("_")
        if rest == "truth":
            metafunc.parametrize(name, truths(kind, getattr(metafunc.module, "REFUSED", ())))


FOREIGN_FOLDERS = (
    *("/proc", "/dev", "/sys", "/usr", "/lib", "/etc", "/var/cache", "/memfd:", "/SYSV"),
    *{sys.prefix, sys.base_prefix, str(Path.home() / ".cache"), str(Path.home() / ".local")},
)
"""Where fonts, libraries and caches are that Qt, GL and the interpreter keep open."""

FOREIGN_THREADS = ("asyncio_", "ThreadPoolExecutor-zarr", "zarr", "Dask", "IO loop", "Profile")
"""Threads that zarr and dask start once and keep."""


@pytest.fixture(autouse=True)
def _no_open_files_left() -> Iterator[None]:
    """Fail a test that leaves a regular file open."""
    before = _open_files()
    yield
    deadline = time.monotonic() + TIMEOUT_S
    while (left := _open_files() - before) and time.monotonic() < deadline:
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
        thread.join(timeout=TIMEOUT_S)
    alive = [thread.name for thread in left if thread.is_alive()]
    assert not alive, f"left running: {alive}"


_DESCRIPTORS = "/proc/self/fd"


def _open_files() -> Counter[str]:
    """Count the open regular files of this process by path; none where there is no /proc."""
    count: Counter[str] = Counter()
    for number in os.listdir(_DESCRIPTORS) if os.path.isdir(_DESCRIPTORS) else ():
        try:
            target = os.readlink(f"{_DESCRIPTORS}/{number}")  # twice as quick
            if target[0] != "/" or _is_foreign(target):  # no path: a pipe, a socket
                continue
            if stat.S_ISREG(os.fstat(int(number)).st_mode):
                count[target] += 1
        except OSError:
            continue
    return count


def _is_foreign(target: str) -> bool:
    if target.startswith(tempfile.gettempdir()) and not target.startswith(sys.prefix):
        return False
    return target.startswith(FOREIGN_FOLDERS) or "font" in target.lower() or ".so" in target
