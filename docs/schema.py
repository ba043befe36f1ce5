"""Write the JSON Schemas of manifest and events from their models: .venv/bin/python docs/schema.py.

Descriptions are taken from the docstrings; tests compare the files.
"""

import inspect
import json
import re
from pathlib import Path
from typing import Any

from pydantic import BaseModel, TypeAdapter

from napari_patchset.annotations.features import ClassLabel
from napari_patchset.cli.events import EVENTS
from napari_patchset.cli.report import VERSION
from napari_patchset.jobs.status import WorkStatus
from napari_patchset.patchset.manifest import ArrayEntry, Manifest
from napari_patchset.patchset.statistics import ChannelStatistics
from napari_patchset.source import PixelSize, SourceInfo

FILE = Path(__file__).with_name("manifest.schema.json")
MODELS: tuple[type[BaseModel], ...] = (
    ArrayEntry,
    ChannelStatistics,
    ClassLabel,
    PixelSize,
    SourceInfo,
)
EVENTS_FILE = Path(__file__).with_name("events.schema.json")
ATTRIBUTE = re.compile(r"^(\w+(?:, \w+)*)(?: : .*)?\n((?: {4}.*\n?)+)", re.MULTILINE)


def schema() -> dict[str, Any]:
    """Return the schema, each key with its description."""
    made = Manifest.model_json_schema(mode="serialization")
    _describe(made, Manifest)
    for model in MODELS:
        _describe(made["$defs"][model.__name__], model)
    _tidy(made)
    made["properties"]["arrays"]["additionalProperties"] = False  # as the model refuses them
    dialect = {"$schema": "https://json-schema.org/draft/2020-12/schema"}
    return dialect | {"title": "The manifest of a patch set, versions 1 and 2"} | made


def events_schema() -> dict[str, Any]:
    """Return the schema of a line that `--json` prints."""
    _, parts = TypeAdapter.json_schemas([(e, "serialization", TypeAdapter(e)) for e in EVENTS])
    made = parts["$defs"]
    for part in (*EVENTS, WorkStatus):
        _describe(made[part.__name__], part)
    _tidy(made)
    dialect = {"$schema": "https://json-schema.org/draft/2020-12/schema"}
    choices = [{"$ref": f"#/$defs/{event.__name__}"} for event in EVENTS]
    title = f"An event of the command, version {VERSION}"
    return dialect | {"title": title, "oneOf": choices, "$defs": made}


def _describe(part: dict[str, Any], model: type) -> None:
    bases = getattr(model, "__orig_bases__", ()) if issubclass(model, dict) else ()
    for base in (*bases, *reversed(model.__mro__)):
        if base is dict or not inspect.isclass(base):
            continue
        summary, _, attributes = inspect.cleandoc(base.__doc__ or "").partition("\n\nAttributes\n")
        part["description"] = " ".join(summary.split())
        for names, text in ATTRIBUTE.findall(attributes):
            for name in set(names.split(", ")) & set(part["properties"]):
                part["properties"][name]["description"] = " ".join(text.split())


def _tidy(part: Any) -> None:
    """Leave out titles that pydantic makes of names, and what only some of its releases write."""
    if isinstance(part, dict):
        if isinstance(part.get("title"), str):
            del part["title"]
        if part.get("additionalProperties") is True:
            del part["additionalProperties"]
        if "const" in part:
            part.pop("enum", None)
            part.pop("type", None)
        for value in part.values():
            _tidy(value)
    elif isinstance(part, list):
        for value in part:
            _tidy(value)


if __name__ == "__main__":
    FILE.write_text(json.dumps(schema(), indent=1) + "\n", "utf-8")
    EVENTS_FILE.write_text(json.dumps(events_schema(), indent=1) + "\n", "utf-8")
