"""The samples sheet: a CSV that says which animal, plate or treatment each source is of.

Its columns `source` and, where a file has several scenes, `scene` name an image; every other column
holds a property of it. `assign` puts these values into the sources of a plan, so that plan and
patch set have them without the file.
"""

import csv
from collections.abc import Iterable, Sequence
from io import StringIO
from pathlib import Path, PurePosixPath
from typing import Self

from napari_patchset._model import Frozen
from napari_patchset.errors import SplitError
from napari_patchset.exporting.plans.image_refs import SourceRef, absolute_path
from napari_patchset.patching.splits.sheet_columns import SPLIT_COLUMN
from napari_patchset.source import is_remote, local_path

SOURCE, SCENE = "source", "scene"


class SampleRow(Frozen):
    """A line of a sheet: an image, and its values by column, without empty ones."""

    line: int
    source: str
    scene: str
    values: dict[str, str]


class SampleSheet(Frozen):
    """A samples sheet.

    Attributes
    ----------
    path : str
        The file, for messages.
    columns : tuple of str
        The columns that hold values, in their order.
    rows : tuple of SampleRow
        Its lines.
    """

    path: str
    columns: tuple[str, ...]
    rows: tuple[SampleRow, ...]

    @classmethod
    def from_file(cls, path: str | Path) -> Self:
        """Read a CSV with a header; cells are separated by commas, semicolons or tabs.

        Raises
        ------
        FileNotFoundError, SplitError
            If there is no such file, or it is not a samples sheet.
        """
        names, lines = _read_csv(path)
        if SOURCE not in names:
            raise SplitError(
                f"{path}: a samples sheet has a column source, which names the images; its columns "
                f"are {', '.join(names) or 'none'}."
            )
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise SplitError(f"{path}: there are two columns {twice[0]!r}; rename one.")
        if "" in names:
            raise SplitError(f"{path}: column {names.index('') + 1} has no name; name it.")
        rows = list[SampleRow]()
        for number, cells in lines:
            if len(cells) != len(names):
                raise SplitError(
                    f"{path}: line {number} has {len(cells)} cells, not {len(names)} as the first; "
                    "put a cell that holds a separator in quotes."
                )
            values = dict(zip(names, cells, strict=True))
            source, scene = values.pop(SOURCE), values.pop(SCENE, "")
            if not source:
                raise SplitError(f"{path}: line {number} names no source; fill it in.")
            filled = {name: value for name, value in values.items() if value}
            rows.append(SampleRow(line=number, source=source, scene=scene, values=filled))
        if not rows:
            raise SplitError(f"{path}: there is no line below the header.")
        columns = tuple(name for name in names if name not in (SOURCE, SCENE))
        return cls(path=str(path), columns=columns, rows=tuple(rows))

    def assign(
        self, sources: Iterable[SourceRef], names: Sequence[str] = ()
    ) -> tuple[SourceRef, ...]:
        """Return the sources with their values.

        A line names a source by its path, relative to the sheet or to the current folder, or by its
        file name; without a scene it is for all scenes of the file. Lines of other files are
        ignored.

        Parameters
        ----------
        names : sequence of str
            How messages name the sources, and lines may; by default, messages have the path.

        Raises
        ------
        SplitError
            If a source has no line, or several, or a file name is that of several sources.
        """
        sources, lines = tuple(sources), _Lines(self)
        named = [*zip(sources, names or map(str, sources), strict=True)]
        found = [lines.find(ref, name) for ref, name in named]
        if lacking := [name for (_, name), row in zip(named, found, strict=True) if row is None]:
            raise SplitError(
                f"{self.path}: there is no line for {lacking[0]} ({len(lacking)} of {len(sources)} "
                "sources lack one); add one with its file name in the column source."
            )
        lines.check_names()
        return tuple(
            ref.model_copy(update={"columns": tuple(row.values.items())})
            for ref, row in zip(sources, found, strict=True)
            if row is not None
        )


def _column_name(name: str) -> str:
    """Return the name of a column; those that have a meaning may have capitals."""
    lower = name.casefold()
    return lower if lower in (SOURCE, SCENE, SPLIT_COLUMN) else name


def _read_csv(path: str | Path) -> tuple[list[str], list[tuple[int, list[str]]]]:
    """Read the header of a CSV, and the cells of each line that is not empty, with its number."""
    try:
        text = Path(path).read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise SplitError(f"{path}: not a CSV in UTF-8: {error}; save it as one.") from None
    delimiter = max(",;\t", key=text.partition("\n")[0].count)
    lines = csv.reader(StringIO(text, newline=""), delimiter=delimiter, strict=True)
    try:
        names = [_column_name(name.strip()) for name in next(lines, [])]
        rows = [(lines.line_num, [cell.strip() for cell in line]) for line in lines]
    except csv.Error as error:
        raise SplitError(f"{path}: line {lines.line_num} is not CSV: {error}.") from None
    return names, [(number, cells) for number, cells in rows if any(cells)]


class _Lines:
    """The lines of a sheet, by what they call a source."""

    def __init__(self, sheet: SampleSheet) -> None:
        self._sheet = sheet
        self._folder = Path(absolute_path(sheet.path)).parent
        self._by_name: dict[str, list[SampleRow]] = {}
        self._used: dict[int, tuple[SampleRow, set[str]]] = {}
        for row in sheet.rows:
            for name in dict.fromkeys(self._names(row.source)):
                self._by_name.setdefault(name, []).append(row)

    def find(self, ref: SourceRef, named: str) -> SampleRow | None:
        """Return the line of a source, None if there is none."""
        names = absolute_path(ref.path), _file_name(ref.path), named
        whole = {row.line: row for name in names for row in self._by_name.get(name, ())}
        found = [row for row in whole.values() if row.scene in ("", str(ref.scene))]
        with_scene = [f"{name}@{ref.scene}" for name in names]  # as messages name it
        found += [row for name in with_scene for row in self._by_name.get(name, ())]
        found = list({row.line: row for row in found}.values())
        if len(found) > 1:
            listed = " and ".join(str(row.line) for row in found[:2])
            raise SplitError(
                f"{self._sheet.path}: lines {listed} are both for {named}; leave one of them."
            )
        if not found:
            return None
        self._used.setdefault(found[0].line, (found[0], set()))[1].add(absolute_path(ref.path))
        return found[0]

    def check_names(self) -> None:
        """Raise SplitError if a bare file name stands for files in several folders."""
        for row, paths in self._used.values():
            if len(paths) > 1:
                first, second = sorted(paths)[:2]
                raise SplitError(
                    f"{self._sheet.path}: {row.source} in line {row.line} is the name of {first} "
                    f"and of {second}; write the path of each."
                )

    def _names(self, source: str) -> Iterable[str]:
        """Return the paths and the name that a cell may stand for."""
        if is_remote(source):
            return [source]
        path = local_path(source)
        names = [absolute_path(path), absolute_path(str(self._folder / path))]
        is_bare = "/" not in path and "\\" not in path
        return [*names, path] if is_bare else names


def _file_name(path: str) -> str:
    return PurePosixPath(path.rstrip("/")).name if is_remote(path) else Path(local_path(path)).name
