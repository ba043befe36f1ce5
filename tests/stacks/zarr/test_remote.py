"""Images behind a URL: requests are few, overlap, and are repeated; secrets stay secret."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import zarr

pytest.importorskip("aiohttp")

from napari_patchset import (
    ExportPlan,
    PatchSet,
    Rectangle,
    Tiled,
    export,
    open_stack,
    plan_export,
)
from napari_patchset.errors import UnreachableError, UnreadableFileError
from napari_patchset.stacks import retrying
from napari_patchset.stacks.fingerprint import content_key
from napari_patchset.stacks.zarr import chunks
from napari_patchset.stacks.zarr.remote import MAX_REQUESTS
from support.documents import number, tables
from support.web import WebServer, serve
from support.zarr_maker import drawn, write_image

SIZE, CHUNK = 64, 8


@pytest.fixture(autouse=True)
def _short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retrying, "FIRST_PAUSE_SECONDS", 0.001)
    monkeypatch.setattr(retrying, "MAX_PAUSE_SECONDS", 0.002)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[WebServer]:
    """Serve an image of 64 chunks, "x.zarr"."""
    folder = tmp_path / "www"
    folder.mkdir()
    write_image(folder / "x.zarr", "YX", drawn("YX", (SIZE, SIZE)))
    with serve(folder) as server:
        yield server


def plan_of(url: str, out: Path, size: int = 16) -> ExportPlan:
    return ExportPlan(sources=url, out=out, strategy=Tiled(size=(size, size)))


def test_the_key_is_that_of_the_files_and_reads_few_bytes(
    server: WebServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(chunks, "_END_BYTES", 16)
    monkeypatch.setattr(chunks, "_MAX_FINGERPRINTED", 10)
    with open_stack(server.folder / "x.zarr") as stack:
        key = content_key(stack)
    with open_stack(f"{server.url}/x.zarr") as stack:
        server.requests.clear()
        server.n_bytes = 0
        assert content_key(stack) == key
    assert server.n_chunk_requests <= 3 * 10
    assert server.n_bytes <= 10 * 2 * 16


def test_an_export_asks_for_each_chunk_once(server: WebServer, tmp_path: Path) -> None:
    url = f"{server.url}/x.zarr"
    with open_stack(url) as stack:
        content_key(stack)
    for_key = server.n_chunk_requests
    server.requests.clear()
    with export(plan_of(url, tmp_path / "a.patches.zarr")) as made:
        pixels = made["all"][:]
    n_chunks = (SIZE // CHUNK) ** 2
    assert server.n_chunk_requests == for_key + n_chunks
    local = plan_of(str(server.folder / "x.zarr"), tmp_path / "b.patches.zarr")
    with export(local) as made:
        np.testing.assert_array_equal(pixels, made["all"][:])


def test_an_export_of_one_patch_costs_the_requests_of_the_page(tmp_path: Path) -> None:
    (rows,) = (rows for head, rows in tables("performance").items() if "for its key" in head)
    (of_one, for_key, megabytes), (of_all, _, _) = (list(map(number, row[1:])) for row in rows)
    folder = tmp_path / "served"
    noise = np.random.default_rng(0).integers(0, 2**16, (2048, 2048), np.uint16)
    zarr.create_array(folder / "a.zarr", data=noise, chunks=(64, 64), compressors=None)
    corner = Tiled(size=(64, 64), region=Rectangle(x=0, y=0, w=64, h=64))
    with serve(folder) as server:
        url, out = f"{server.url}/a.zarr", tmp_path / "a.patches.zarr"
        export(ExportPlan(sources=url, strategy=corner, out=out)).close()
        assert sum(server.requests.values()) == of_one
        assert round(server.n_bytes / 1e6, 1) == megabytes
        n_metadata = sum(server.requests.values()) - server.n_chunk_requests
        server.requests.clear()
        with open_stack(url) as stack:
            content_key(stack)
        assert server.n_chunk_requests == for_key
    assert of_all == n_metadata + for_key + 32 * 32  # each chunk once, see above


def test_requests_overlap_within_a_bound(server: WebServer, tmp_path: Path) -> None:
    write_image(server.folder / "large.zarr", "YX", drawn("YX", (256, 256)), chunks=(32, 32))
    server.pause = 0.01
    export(plan_of(f"{server.url}/large.zarr", tmp_path / "a.patches.zarr", 32), workers=1).close()
    assert 8 <= server.most_at_once <= MAX_REQUESTS


@pytest.mark.parametrize("status", [0, 429, 500, 502, 503, 504])
def test_a_server_that_fails_for_a_while_is_asked_again(server: WebServer, status: int) -> None:
    server.faults = {"/c/0/0": [status] * 2, "zarr.json": [status] * 2}
    with open_stack(f"{server.url}/x.zarr") as stack, open_stack(server.folder / "x.zarr") as local:
        ours, theirs = (s.extract_patch(0, [0], (0, 0), (16, 16)) for s in (stack, local))
        np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize(
    ("status", "says", "kind"),
    [
        (503, r"c/0/0: the server answered 503 Service Unavailable, 5 times", UnreachableError),
        (403, r"c/0/0: can't be read: the server answered 403 Forbidden", UnreadableFileError),
    ],
)
def test_an_error_names_the_status(
    server: WebServer, status: int, says: str, kind: type[Exception]
) -> None:
    server.faults = {"/c/0/0": [status] * 99}
    with open_stack(f"{server.url}/x.zarr") as stack:
        with pytest.raises(kind, match=says):
            stack.extract_patch(0, [0], (0, 0), (16, 16))
        n_attempts = 5 if kind is UnreachableError else 1
        assert server.requests["/x.zarr/0/c/0/0"] == n_attempts


def test_a_fault_while_the_key_is_read_is_no_absent_chunk(server: WebServer) -> None:
    with open_stack(f"{server.url}/x.zarr") as stack:
        key = content_key(stack)
        server.faults = {"/c/0/0": [503, 503]}
        assert content_key(stack) == key
        server.faults = {"/c/0/0": [503] * 99}
        with pytest.raises(UnreachableError, match="503"):
            content_key(stack)


def test_absent_chunks_are_counted(server: WebServer, tmp_path: Path) -> None:
    for name in ("0", "1", "2"):
        (server.folder / f"x.zarr/0/c/3/{name}").unlink()
    with pytest.warns(UserWarning, match=r"x.zarr/0: 3 chunks are absent on the server"):
        made = export(plan_of(f"{server.url}/x.zarr", tmp_path / "a.patches.zarr"))
    assert not made["all"][4][0, 8:16, :].any()
    made.close()


Command = Callable[..., tuple[int, str, str]]


def texts_of(runs: list[tuple[int, str, str]]) -> list[str]:
    return [text for _, *texts in runs for text in texts]


SECRETS = ("s3cretPa55", "tok3nOfAccess")


@pytest.fixture
def secret_url(server: WebServer) -> str:
    """Name the image with a password and a token, which the server requires."""
    server.user, server.token = "me:s3cretPa55", "tok3nOfAccess"
    host = server.url.removeprefix("http://")
    return f"http://me:s3cretPa55@{host}/x.zarr?sig=tok3nOfAccess"


def assert_nowhere(texts: list[str], folder: Path) -> None:
    files = [path for path in folder.rglob("*") if path.is_file() and "www" not in path.parts]
    for secret in SECRETS:
        assert not [text for text in texts if secret in text]
        assert not [path for path in files if secret.encode() in path.read_bytes()]


def test_a_secret_is_sent_and_written_nowhere(
    secret_url: str, server: WebServer, tmp_path: Path, run: Command
) -> None:
    runs = [
        run("info", secret_url),
        run("info", secret_url, "--json"),
        run("plan", secret_url, "--patch-size", "16", "--filter", "max>0", "--out",
                "p.patches.zarr", "--json"),
    ]  # fmt: skip
    assert_nowhere(texts_of(runs), tmp_path)
    for step in ("score", "write"):
        runs.append(run(step, "p.patches.zarr", "--job", "0", "--of", "1", "--json"))
    runs += [
        run("finalize", "p.patches.zarr", "--json"),
        run("verify", "p.patches.zarr"),
        run("export", secret_url, "--patch-size", "16", "--out", "e.patches.zarr", "--json"),
    ]
    assert [code for code, _, _ in runs] == [0] * len(runs), runs
    server.faults = {"": [503] * 9999}
    runs.append(run("export", secret_url, "--patch-size", "16", "--out", "f.patches.zarr"))
    assert runs[-1][0] == 1
    server.faults, server.user = {}, "other:password"
    runs.append(run("info", secret_url))
    assert "401 Unauthorized" in runs[-1][2]
    assert_nowhere(texts_of(runs), tmp_path)
    provenance = PatchSet(tmp_path / "e.patches.zarr").provenance
    assert [source["path"] for source in provenance.sources] == [f"{server.url}/x.zarr"]


def test_a_secret_reaches_the_processes_of_an_export(
    secret_url: str, server: WebServer, tmp_path: Path, spawned: ProcessPoolExecutor
) -> None:
    plan = plan_of(secret_url, tmp_path / "a.patches.zarr")
    with export(plan, spawned) as made:
        pixels = made["all"][:]
    with export(plan_of(str(server.folder / "x.zarr"), tmp_path / "b.patches.zarr")) as made:
        np.testing.assert_array_equal(pixels, made["all"][:])
    assert_nowhere([], tmp_path)


@pytest.mark.usefixtures("secret_url")
@pytest.mark.parametrize("knows", [True, False])
def test_a_job_elsewhere_takes_secrets_from_netrc_and_from_fsspecs_environment(
    server: WebServer, tmp_path: Path, knows: bool
) -> None:
    (tmp_path / ".netrc").write_text("machine 127.0.0.1 login me password s3cretPa55\n", "utf-8")
    (tmp_path / ".netrc").chmod(0o600)
    environment = {**os.environ, "HOME": str(tmp_path), "USERPROFILE": str(tmp_path)}
    if knows:
        environment["FSSPEC_HTTP"] = '{"params": {"sig": "tok3nOfAccess"}}'
    command = [sys.executable, "-m", "napari_patchset", "info", f"{server.url}/x.zarr"]
    ended = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert ended.returncode == (0 if knows else 1), ended.stderr
    assert ("401" in ended.stderr) != knows


def test_a_secret_is_in_no_error_and_no_text_of_a_plan(
    secret_url: str, server: WebServer, tmp_path: Path
) -> None:
    plan = plan_of(secret_url, tmp_path / "a.patches.zarr")
    server.token = "another"
    texts = [repr(plan), plan.model_dump_json(), json.dumps(plan.model_dump(mode="json"))]
    with pytest.raises(UnreadableFileError) as failed:
        export(plan)
    error: BaseException | None = failed.value
    while error is not None:
        texts += [str(error), repr(error)]
        error = error.__cause__
    assert_nowhere(texts, tmp_path)


def test_nothing_is_read_once_an_image_is_closed(server: WebServer, tmp_path: Path) -> None:
    plan = plan_of(f"{server.url}/x.zarr", tmp_path / "a.patches.zarr", SIZE)
    plan_export(plan)
    server.fault = lambda path: 503 if "/c/" in path else None  # type: ignore[method-assign]
    script = (
        "import sys; from napari_patchset.stacks import retrying; from napari_patchset import *\n"
        "retrying.FIRST_PAUSE_SECONDS = 0.01\n"
        "try: write_job(sys.argv[1], 0, 1)\n"
        "except Exception as error: print(error)"
    )
    ended = subprocess.run(
        [sys.executable, "-c", script, plan.out], capture_output=True, text=True, check=True
    )
    assert "503 Service Unavailable, 5 times" in ended.stdout
    assert ended.stderr == ""  # asyncio would tell of requests that still wait
