"""`patchset info`: the scenes of an image file, or the arrays of a patch set."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from napari_patchset.cli.report import REPORT
from napari_patchset.errors import SOURCE_ERRORS, describe_os_error
from napari_patchset.source import is_remote, split_source
from napari_patchset.stacks.metadata import describe, image_metadata
from napari_patchset.stacks.opening import list_absent, list_scenes, open_stack, scene_ids

_WIDTH = 500
"""Characters in a line where no terminal limits it."""


def info(
    path: Annotated[
        str,
        typer.Argument(
            metavar="FILE",
            help='A file, folder or URL; "name.czi@3" is scene 3 of a file.',
        ),
    ],
) -> None:
    """Show what is in an image file, a folder of images, or a patch set.

    Scenes, or the arrays of a patch set: size along each axis, pixel type and size, channels.

    Example: patchset info cells.czi
    """
    file, chosen = split_source(path)
    arrays = _patch_set_rows(file)
    rows = arrays or _folder_rows(file, chosen) or _scene_rows(file, chosen)
    if REPORT.as_json:  # the description is one document, not events
        typer.echo(json.dumps(rows, indent=1))
        return
    table = Table()
    in_folder = ("file",) if rows and "file" in rows[0] else ()
    first = ("array", "patches") if arrays else (*in_folder, "scene", "name")
    for column in (*first, "size", "type", "pixel size (um)", "channels"):
        table.add_column(column, overflow="fold")  # truncated, it would be of no use
    for row in rows:
        scene, channels = "" if row["id"] is None else str(row["id"]), ", ".join(row["channels"])
        table.add_row(
            *(row[column] for column in in_folder),
            *(scene, row["name"], _format_size(row), row["dtype"], _format_pixel(row), channels),
        )
    console = Console()
    absent = {name: None for row in rows for name in row.get("absent", {}).get("names", [])}
    for name in absent:
        typer.echo(f"absent: {name}")
    for row in rows:
        if planes := row.get("absent", {}).get("planes"):
            of_scene = "" if row["id"] is None else f" of scene {row['id']}"
            of_scene += f" of {row['file']}" if in_folder else ""
            typer.echo(f"absent: {planes} {'plane' if planes == 1 else 'planes'}{of_scene}")
    if guessed := sorted({row["axes"] for row in rows if row.get("guessed_axes")}):
        typer.echo(
            f"axes: the file does not name all of {', '.join(guessed)}; if you know better, state "
            "them with --axes of `plan` or `export`"
        )
    (console if console.is_terminal else Console(width=_WIDTH)).print(table)


def _scene_rows(file: str | Path, chosen: Any) -> list[dict[str, Any]]:
    """Describe the scenes of a file."""
    ids, absent = scene_ids(file, chosen), list(list_absent(file))
    rows = []
    for scene in list_scenes(file):
        if scene.id in ids:
            with open_stack(file, scene.id) as stack:
                source = describe(stack)
                sizes = dict(zip(source.axes, source.shape, strict=True))
                unnamed = "S" if sizes.get("S", 1) > 1 else ""
                guessed = source.axes if getattr(stack, "are_axes_guessed", False) else unnamed
                metadata = image_metadata(stack)
            row = asdict(scene) | source.model_dump(mode="json", exclude={"scene"})
            rows.append(
                row
                | {
                    "pixel_size_unit": "unknown" if metadata.unitless else "micrometer",
                    "unitless_size": dict(metadata.unitless),
                    "time_step_s": metadata.time_step,
                    "guessed_axes": guessed,
                    "absent": {"names": absent, "planes": len(source.missing)},
                }
            )
    return rows


def _folder_rows(file: str | Path, chosen: Any) -> list[dict[str, Any]]:
    """Describe the scenes of the images in a folder, those that an export takes; [] for no folder.

    One that can't be read is a warning, unless none can.
    """
    if is_remote(file) or not Path(file).is_dir():
        return []
    from napari_patchset.exporting.plans.source_files import expand_sources, is_folder

    if not is_folder(file):
        return []
    rows, errors = list[dict[str, Any]](), dict[str, Exception]()
    for path in dict.fromkeys(ref.path for ref in expand_sources([file])):
        try:
            rows += [{"file": Path(path).name} | row for row in _scene_rows(path, chosen)]
        except SOURCE_ERRORS as error:
            errors[Path(path).name] = error
    if not rows:
        raise next(iter(errors.values()))
    reasons = {name: describe_os_error(each) for name, each in errors.items()}
    if REPORT.as_json:  # one document, which warnings would break
        return rows + [{"file": name, "error": why} for name, why in reasons.items()]
    for why in reasons.values():
        REPORT.warning(why)
    return rows


def _patch_set_rows(file: str | Path) -> list[dict[str, Any]]:
    """Describe the arrays of a patch set like scenes; [] if it is none, or holds no pixels."""
    if is_remote(file) or not Path(file).is_dir():
        return []
    # The modules for patch sets take longer to import than those for images.
    from napari_patchset.patchset.manifest import read_attributes
    from napari_patchset.patchset.reader import read_description

    if read_attributes(Path(file)) is None:
        return []
    manifest, _ = read_description(Path(file))
    pixel_size = manifest.pixel_size.model_dump()
    return [
        {
            "id": name,
            "name": f"{entry.shape[0]} patches",
            "axes": entry.axes,
            "shape": entry.shape,
            "dtype": entry.dtype,
            "channels": entry.channels,
            "pixel_size": pixel_size,
        }
        for name, entry in manifest.arrays.items()
    ]


def _format_size(row: dict[str, Any]) -> str:
    """Return the size along each axis of more than one plane: "T3 C2 Y64 X64"."""
    sizes = zip(row["axes"], row["shape"], strict=True)
    return " ".join(f"{axis}{n}" for axis, n in sizes if n > 1 or axis in "CYX")


def _format_pixel(row: dict[str, Any]) -> str:
    """Return the edges of a pixel that are known: "0.65, Z 2", or "0.6 x 0.7"."""
    z, y, x = (row["pixel_size"][axis] for axis in "zyx")
    edges = list(dict.fromkeys(f"{n:.4g}" for n in (y, x) if n))
    depth = [f"Z {z:.4g}"] if z else []
    known = [" x ".join(edges), *depth] if edges else depth
    if row.get("unitless_size"):
        sizes = ", ".join(f"{axis} {size:.4g}" for axis, size in row["unitless_size"].items())
        known.append(f"{sizes} (unit unknown)")
    return ", ".join(known) or "unknown"
