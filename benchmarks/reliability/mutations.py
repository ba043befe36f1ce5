"""Damage a file, or one file of a zarr, in ways that a disk, a network or an enemy might."""

import json
import re
import shutil
import struct
from collections.abc import Callable
from pathlib import Path
from random import Random

_LANDMARKS = re.compile(
    rb"ZISRAW|DV\x00|DV[\x00-\x08]\x00\x00|WMPHOTO|II\xbc\x01|\x28\xb5\x2f\xfd|II\*\0|MM\0\*|II\+\0"
    rb"|\xff[\xc0-\xdb]|<OME|ImageJ=|\xff\x4f\xff\x51|RIFF|\x1f\x8b|\x89PNG"
)
"""Where structure begins; most bytes of a file are pixels, which would take most of the hits."""

_WILD = (0, 1, -1, 2, 127, 255, 2**15, 2**16 - 1, 2**31 - 1, -(2**31), 2**40, 2**62, -(2**63))
_METADATA = ("zarr.json", ".zarray", ".zgroup", ".zattrs")


def mutate(original: Path, target: Path, random: Random) -> str:
    """Write a damaged copy of a file or zarr folder and describe the damage."""
    if not original.is_dir():
        data = bytearray(original.read_bytes())
        done = _damage(data, random)
        target.write_bytes(data)
        return done
    shutil.copytree(original, target)
    files = sorted(path for path in target.rglob("*") if path.is_file())
    named = [path for path in files if path.name in _METADATA]
    file = random.choice(named if random.random() < 0.5 else files)
    where = str(file.relative_to(target))
    if file.name in _METADATA and random.random() < 0.8:
        return f"{where}: {_edit(file, random)}"
    if random.random() < 0.1:
        file.unlink()
        return f"{where}: deleted"
    if random.random() < 0.1:
        other = random.choice(files)
        file.write_bytes(other.read_bytes())
        return f"{where}: replaced by {other.relative_to(target)}"
    data = bytearray(file.read_bytes())
    done = _damage(data, random)
    file.write_bytes(data)
    return f"{where}: {done}"


def _damage(data: bytearray, random: Random) -> str:
    if not data:
        return "left empty"
    rounds = 1 if random.random() < 0.7 else random.randint(2, 6)
    return ", ".join(random.choice(_WAYS)(data, random) for _ in range(rounds) if data)


def _place(data: bytearray, random: Random) -> int:
    """Choose a byte: anywhere, near a landmark, or near an end."""
    chance = random.random()
    if chance < 0.5 and (positions := [match.start() for match in _LANDMARKS.finditer(data)]):
        return min(random.choice(positions) + int(random.expovariate(1 / 60)), len(data) - 1)
    if chance < 0.7:
        near = min(int(random.expovariate(1 / 100)), len(data) - 1)
        return near if random.random() < 0.5 else len(data) - 1 - near
    return random.randrange(len(data))


def _flip(data: bytearray, random: Random) -> str:
    at, bit = _place(data, random), random.randrange(8)
    data[at] ^= 1 << bit
    return f"bit {bit} of byte {at} flipped"


def _set(data: bytearray, random: Random) -> str:
    at, value = _place(data, random), random.randrange(256)
    data[at] = value
    return f"byte {at} is {value}"


def _wild(data: bytearray, random: Random) -> str:
    """Write an extreme number, mostly where a number of that size may stand."""
    code = random.choice("bhiqBHIQ")
    size = struct.calcsize(f"<{code}")
    at = _place(data, random)
    at -= at % size if random.random() < 0.5 else 0
    value = random.choice(_WILD) % 2 ** (8 * size)
    written = value.to_bytes(size, random.choice(["little", "big"]))[: len(data) - at]
    data[at : at + len(written)] = written
    return f"{size} bytes at {at} are {value:#x}"


def _truncate(data: bytearray, random: Random) -> str:
    at = _place(data, random)
    del data[at:]
    return f"cut at {at}"


def _run(data: bytearray, random: Random) -> tuple[int, int]:
    at = _place(data, random)
    return at, min(random.choice((1, 4, 16, 64, 512, 4096)), len(data) - at)


def _remove(data: bytearray, random: Random) -> str:
    at, length = _run(data, random)
    del data[at : at + length]
    return f"{length} bytes at {at} removed"


def _repeat(data: bytearray, random: Random) -> str:
    at, length = _run(data, random)
    data[at:at] = data[at : at + length]
    return f"{length} bytes at {at} repeated"


def _overwrite(data: bytearray, random: Random) -> str:
    at, length = _run(data, random)
    fill = random.choice((b"\0", b"\xff", None))
    data[at : at + length] = random.randbytes(length) if fill is None else fill * length
    return f"{length} bytes at {at} overwritten by {fill!r}"


def _swap(data: bytearray, random: Random) -> str:
    a, length = _run(data, random)
    b = _place(data, random)
    length = min(length, len(data) - b, abs(a - b))
    data[a : a + length], data[b : b + length] = data[b : b + length], data[a : a + length]
    return f"{length} bytes at {a} and {b} swapped"


_WAYS: tuple[Callable[[bytearray, Random], str], ...] = (
    *(_flip, _flip, _flip, _wild, _wild, _wild, _set),
    *(_truncate, _remove, _repeat, _overwrite, _swap),
)

_WILD_JSON = (
    *(0, -1, 1, 2, 2**31, 2**62, 10**18, 1e308, 0.5, None, True, "", "x", [], {}, [0]),
    *(
        "../..",
        "/etc",
        "\0",
        "|u1",
        "<f8",
        "float64",
        "|O",
        "bytes",
        "blosc",
        "pickle",
        [2**40] * 3,
    ),
)


def _edit(file: Path, random: Random) -> str:
    """Change one value of a JSON file."""
    doc = json.loads(file.read_bytes())
    places = list(_places(doc))
    if not places:
        file.write_text(json.dumps(random.choice(_WILD_JSON)))
        return "replaced as a whole"
    holder, key = random.choice(places)
    if random.random() < 0.2:
        value = "nothing"
        del holder[key]
    else:
        value = holder[key] = random.choice(_WILD_JSON)
    file.write_text(json.dumps(doc))
    return f"{key!r} is {value!r}"


def _places(doc: object) -> list[tuple[object, object]]:
    if isinstance(doc, dict):
        items = list(doc.items())
    elif isinstance(doc, list):
        items = list(enumerate(doc))
    else:
        return []
    return [(doc, key) for key, _ in items] + [p for _, value in items for p in _places(value)]
