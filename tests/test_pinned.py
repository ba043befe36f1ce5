"""What must stay the same, pixel by pixel and value by value, when the code is rearranged.

`pinned.json` holds digests of the results of version 0.1.0: of exports by the command, and of the
layers that the reader gives to napari. What is changed on purpose is changed there, visibly:

    .venv/bin/python tests/test_pinned.py --write

writes the file anew, and its difference belongs into the commit.

Only what is public is used: the command, the reader that napari.yaml names, and NumPy, zarr,
tifffile and pyarrow to read what was written. Two kinds of results are compared:

- "values" are the same with every version of the libraries. Floats are compared to 9 digits.
  tifffile and zarr decide about the bytes of their files, so the keys of such sources, which are
  digests of bytes, are replaced by numbers. The CZI files are written by the tests: their keys
  stay, and only they are used where something is drawn, which depends on the key.
- "bytes" are those of the files, and every digit of the manifest. They are compared if the
  libraries have the versions with which `pinned.json` was written.
"""

import hashlib
import io
import json
import os
import re
import runpy
import shlex
import sys
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, redirect_stderr, redirect_stdout
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import pyarrow.parquet as pq
import pytest
import tifffile
import zarr

from support.export_makers import small_shards
from support.pinned_cases import EXPORTS, READ_SETS, READ_SOURCES, Export, make_sources

FILE = Path(__file__).with_name("pinned.json")
PINNED: dict[str, Any] = json.loads(FILE.read_text("utf-8")) if FILE.exists() else {}
LIBRARIES = ("imagecodecs", "numcodecs", "numpy", "pyarrow", "pylibCZIrw", "tifffile", "zarr")
KEY = re.compile("[0-9a-f]{32}")
WIDTH = 100


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of the sources, and of what is made of them."""
    folder = tmp_path_factory.mktemp("pinned")
    make_sources(folder)
    return folder


@pytest.mark.parametrize("name", EXPORTS)
def test_an_export_gives_what_it_gave(folder: Path, name: str) -> None:
    assert_as_pinned(exported(folder, name), PINNED["exports"][name])


@pytest.mark.parametrize("name", [*READ_SOURCES, *READ_SETS])
def test_a_file_opens_as_the_layers_that_it_was(folder: Path, name: str) -> None:
    assert layers(folder, name) == PINNED["layers"][name]


@pytest.mark.parametrize("name", READ_SOURCES)
def test_a_file_is_described_as_it_was(folder: Path, name: str) -> None:
    assert_as_pinned(described(folder, name), PINNED["described"][name])


def test_nothing_else_is_pinned() -> None:
    assert list(PINNED["exports"]) == list(EXPORTS)
    assert list(PINNED["layers"]) == [*READ_SOURCES, *READ_SETS]
    assert list(PINNED["described"]) == list(READ_SOURCES)


def assert_as_pinned(found: Mapping[str, Any], pinned: Mapping[str, Any]) -> None:
    assert found["values"] == pinned["values"]
    if PINNED["versions"] == versions():
        assert found["bytes"] == pinned["bytes"]


def versions() -> dict[str, str]:
    return {name: version(name) for name in LIBRARIES}


# Exports


def exported(folder: Path, name: str) -> dict[str, Any]:
    """Export, and give what is pinned of the set."""
    case = EXPORTS[name]
    root, said = export(folder, name)
    manifest, provenance = described_set(root)
    keys = Keys(source["key"] for source in manifest["sources"])
    table = pq.read_table(root / "patches.parquet")
    values = {
        "said": said.replace(str(folder), "FOLDER").splitlines(),
        "files": sorted({unnumbered(path, root) for path in files_of(root)}),
        "manifest": manifest_values(root, manifest),
        "provenance": keys_of(provenance),
        "rows": table.num_rows,
        "table": {
            field.name: f"{field.type} {digest_json(rounded(table[field.name].to_pylist()))}"
            for field in table.schema
        },
        "arrays": arrays(root, manifest["recipe"]["format"]),
    }
    if not case.is_of_czis:
        numbers = keys.replaced(table["source"].to_pylist())
        values["table"]["source"] = f"{table.schema.field('source').type} {digest_json(numbers)}"
        values["manifest"] = keys.replaced(values["manifest"])
    return {"values": values, "bytes": digest_files(root) | {"manifest": digest_json(manifest)}}


def export(folder: Path, name: str) -> tuple[Path, str]:
    """Export unless that is done; give the set, and what the command said."""
    case = EXPORTS[name]
    root, said = folder / f"{name}{case.suffix}", folder / f"{name}.txt"
    if not root.exists():
        said.write_text(carry_out(case, folder, root), "utf-8")
    return root, said.read_text("utf-8")


def carry_out(case: Export, folder: Path, root: Path) -> str:
    # A file in the folder is named by its whole path: the test runs anywhere.
    options = [
        str(folder / word) if (folder / word).is_file() else word
        for word in shlex.split(case.options)
    ]
    if case.plan:
        plan = root.with_suffix(".json")
        plan.write_text(json.dumps(case.plan(folder)))
        options += ["--plan", str(plan)]
    asked = [*(str(folder / name) for name in case.sources.split()), "--out", str(root), *options]
    if not case.in_jobs:
        return run("export", *asked)
    with small_shards():
        said = run("plan", *asked)
        for step in ("score", "write"):
            said += "".join(run(step, str(root), "--job", str(i), "--of", "3") for i in range(3))
        return said + run("finalize", str(root))


def run(*words: str) -> str:
    """Run the command; give what it said."""
    out, err = io.StringIO(), io.StringIO()
    with ExitStack() as stack:
        stack.enter_context(patch.object(sys, "argv", ["patchset", *words]))
        stack.enter_context(redirect_stdout(out))
        stack.enter_context(redirect_stderr(err))
        ended = stack.enter_context(pytest.raises(SystemExit))
        runpy.run_module("napari_patchset", run_name="__main__")
    assert not ended.value.code, f"{shlex.join(words)}: {err.getvalue()}"
    return out.getvalue()


def described_set(root: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the manifest and the provenance of a set."""
    if root.suffix == ".zarr":
        found = json.loads((root / "zarr.json").read_text("utf-8"))["attributes"]["patchset"]
    else:
        found = json.loads((root / "patchset.json").read_text("utf-8"))
    return found["manifest"], found["provenance"]


def manifest_values(root: Path, manifest: Mapping[str, Any]) -> dict[str, Any]:
    """Return the manifest without what depends on the bytes of the table."""
    table = hashlib.blake2b((root / "patches.parquet").read_bytes(), digest_size=16)
    assert manifest["table_digest"] == table.hexdigest()
    values: dict[str, Any] = rounded(manifest)
    return values | {"table_digest": "of the table", "statistics": shortened(values["statistics"])}


def shortened(statistics: Mapping[str, Any]) -> dict[str, Any]:
    """Replace the percentiles, which are many, by their digest."""
    return {
        role: [channel | {"percentiles": digest_json(channel["percentiles"])} for channel in found]
        for role, found in statistics.items()
    }


def arrays(root: Path, form: str) -> dict[str, Any]:
    """Return what each array is, and the digest of its pixels."""
    if form == "zarr":
        return dict(zarr_arrays(root))
    if form == "npz":
        return dict(npz_arrays(root))
    found: dict[str, Any] = {}
    for path in sorted(root.rglob("*.tif")):
        with tifffile.TiffFile(path) as tiff:
            (series,) = tiff.series
            one = f"{series.axes} {digest_array(tiff.asarray())}"
        found.setdefault(path.parent.relative_to(root).as_posix(), []).append(one)
    return {name: [len(ones), ones[0], digest_json(ones)] for name, ones in found.items()}


def npz_arrays(root: Path) -> Iterator[tuple[str, Any]]:
    for path in sorted(root.glob("*.npz")):
        with np.load(path) as members:
            for name, array in sorted(members.items()):
                yield f"{path.name}/{name}", digest_array(array)


def zarr_arrays(root: Path) -> Iterator[tuple[str, Any]]:
    for path in sorted(path.parent for path in root.glob("*/*/zarr.json")):
        array = zarr.open_array(path, mode="r")
        stored = json.loads((path / "zarr.json").read_text("utf-8"))
        yield (
            path.relative_to(root).as_posix(),
            {
                "pixels": digest_array(array[...]),
                "names": stored["dimension_names"],
                "attributes": rounded(stored["attributes"]),
                "shards": list(array.shards or ()),
                "chunks": list(array.chunks),
            },
        )


def files_of(root: Path) -> list[Path]:
    return sorted(path for path in root.rglob("*") if path.is_file())


def unnumbered(path: Path, root: Path) -> str:
    """Name a file of a set, and those that differ by a number only alike."""
    return re.sub(r"\d{6}", "000000", path.relative_to(root).as_posix())


def digest_files(root: Path) -> dict[str, str]:
    """Digest the files of each folder of a set, but the one that holds the provenance."""
    described = root / "zarr.json", root / "patchset.json"
    found: dict[str, Any] = {}
    for path in files_of(root):
        if path not in described:
            digest = found.setdefault(path.parent.relative_to(root).as_posix(), hashlib.sha256())
            digest.update(f"{path.name} {digest_bytes(path.read_bytes())}\n".encode())
    return {name: digest.hexdigest() for name, digest in found.items()}


class Keys:
    """The keys of sources, each of which has the number of its first appearance."""

    def __init__(self, keys: Iterable[str]) -> None:
        self._numbers: dict[str, str] = {}
        for key in keys:
            assert KEY.fullmatch(key), f"the key {key!r} is no digest"
            self._numbers.setdefault(key, f"key {len(self._numbers)}")

    def replaced(self, value: Any) -> Any:
        """Replace the keys in a value by their numbers."""
        if isinstance(value, dict):
            return {name: self.replaced(item) for name, item in value.items()}
        if isinstance(value, list):
            return [self.replaced(item) for item in value]
        return self._numbers.get(value, value) if isinstance(value, str) else value


# Layers


def layers(folder: Path, name: str) -> list[Any]:
    """Return what is pinned of the layers that the reader gives."""
    path = export(folder, name)[0] if name in EXPORTS else folder / name
    get_reader = reader_command()
    reader = get_reader(str(path))
    assert reader is not None
    return [layer_values(*layer, folder) for layer in reader(str(path))]


def reader_command() -> Any:
    """Import the command of the reader that napari.yaml names."""
    npe2 = pytest.importorskip("npe2")
    manifest = npe2.PluginManifest.from_distribution("napari-patchset")
    (reader,) = manifest.contributions.readers
    commands = {command.id: command.python_name for command in manifest.contributions.commands}
    module, _, name = str(commands[reader.command]).partition(":")
    return getattr(import_module(module), name)


def layer_values(data: Any, options: Mapping[str, Any], kind: str, folder: Path) -> dict[str, Any]:
    levels = data if options.get("multiscale") else [data]
    plain = as_text(options, str(folder))
    return {
        "type": kind,
        "options": dict(sorted(plain.items())),
        "levels": [digest_array(np.asarray(level)) for level in levels],
    }


def as_text(value: Any, folder: str) -> Any:
    """Return a value as JSON has it, an object without the module of its class."""
    if isinstance(value, Mapping):
        return {str(name): as_text(item, folder) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [as_text(item, folder) for item in value]
    if isinstance(value, (np.ndarray, np.generic)):
        return rounded(value.tolist())
    if isinstance(value, Path):
        return as_text(value.as_posix(), folder)
    if isinstance(value, str):
        return value.replace(folder, "FOLDER")
    if value is None or isinstance(value, (bool, int, float)):
        return rounded(value)
    colors = getattr(value, "color_dict", None)  # of napari's colormaps of labels
    return {"class": type(value).__name__, "colors": as_text(colors, folder)}


def described(folder: Path, name: str) -> dict[str, Any]:
    """Return what `patchset info` says of a file."""
    scenes = json.loads(run("info", str(folder / name), "--json"))
    keys = [scene["key"] for scene in scenes]
    return {"values": Keys(keys).replaced(rounded(scenes)), "bytes": {"keys": keys}}


# Digests


def rounded(value: Any) -> Any:
    """Round the floats in a value to 9 digits."""
    if isinstance(value, dict):
        return {name: rounded(item) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [rounded(item) for item in value]
    return float(f"{value:.9g}") if isinstance(value, float) else value


def keys_of(value: Any) -> Any:
    """Return the keys of nested objects, without what they hold."""
    if isinstance(value, dict):
        return {name: keys_of(item) for name, item in value.items()}
    return [keys_of(item) for item in value] if isinstance(value, list) else "..."


def digest_bytes(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def digest_json(value: Any) -> str:
    return digest_bytes(json.dumps(value, sort_keys=True).encode())


def digest_array(array: np.ndarray[Any, Any]) -> str:
    """Say type and shape of an array, and the digest of its pixels."""
    little = np.ascontiguousarray(array, array.dtype.newbyteorder("<"))
    return f"{array.dtype.name} {list(array.shape)} {digest_bytes(little.tobytes())}"


# The file


def write_file() -> None:
    """Pin what there is today."""
    with tempfile.TemporaryDirectory() as name:
        os.environ["NAPARI_CONFIG"] = str(Path(name) / "settings.yaml")
        folder = Path(name) / "pinned"
        folder.mkdir()
        make_sources(folder)
        pinned = {
            "versions": versions(),
            "exports": {name: exported(folder, name) for name in EXPORTS},
            "layers": {name: layers(folder, name) for name in (*READ_SOURCES, *READ_SETS)},
            "described": {name: described(folder, name) for name in READ_SOURCES},
        }
    FILE.write_text(f"{pretty(pinned)}\n", "utf-8")


def pretty(value: Any, indent: int = 0, used: int = 0) -> str:
    """Write JSON with as much in a line as fits, so that a difference is readable."""
    line = json.dumps(value, ensure_ascii=False)
    if indent + used + len(line) <= WIDTH or not isinstance(value, (dict, list)) or not value:
        return line
    inner = " " * (indent + 1)
    if isinstance(value, dict):
        names = {f"{json.dumps(name)}: ": item for name, item in value.items()}
        items = [f"{name}{pretty(v, indent + 1, len(name))}" for name, v in names.items()]
    else:
        items = [pretty(item, indent + 1) for item in value]
    first, last = "{}" if isinstance(value, dict) else "[]"
    return f"{first}\n{inner}" + f",\n{inner}".join(items) + f"\n{' ' * indent}{last}"


if __name__ == "__main__":
    if sys.argv[1:] != ["--write"]:
        sys.exit(__doc__)
    write_file()
