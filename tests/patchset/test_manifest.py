"""The JSON Schema of the manifest: what is written is what it describes."""

import json
import runpy
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from napari_patchset import ExportPlan, Random, Tiled, export, verify
from napari_patchset.exporting.plans.image_refs import ImageRef
from napari_patchset.patching.filters.patch_filters import parse_filter
from napari_patchset.patching.regions import Polygon
from napari_patchset.patching.splits.split import Split
from napari_patchset.patchset.layout import MANIFEST
from napari_patchset.patchset.manifest import read_attributes
from napari_patchset.patchset.writers import FORMATS
from support.czi_maker import MakeCzi, SceneSpec, metadata_xml
from support.export_makers import plan_for

SCRIPT = Path(__file__).parents[2] / "docs" / "schema.py"
SCENE = SceneSpec(id=2, rect=(5, -7, 48, 32), t=range(1, 3), z=2, c=2)
XML = metadata_xml({"X": 2.5e-7, "Y": 5e-7}, {"Channel:0": "DAPI", "Channel:1": "µGFP"})


@pytest.fixture(scope="module")
def schema() -> dict[str, Any]:
    content: dict[str, Any] = json.loads(
        SCRIPT.with_name("manifest.schema.json").read_text("utf-8")
    )
    jsonschema.Draft202012Validator.check_schema(content)
    return content


def test_the_schema_is_that_of_the_model(schema: dict[str, Any]) -> None:
    made = json.loads(json.dumps(runpy.run_path(str(SCRIPT))["schema"]()))
    assert schema == made, "run docs/schema.py"


def test_every_key_is_described(schema: dict[str, Any]) -> None:
    parts = {"Manifest": schema, **schema["$defs"]}
    bare = [
        f"{name}.{key}"
        for name, part in parts.items()
        for key, value in part.get("properties", {}).items()
        if "description" not in value and "description" not in part
    ]
    assert not bare


def paired(plan: ExportPlan) -> ExportPlan:
    """Put target, labels and mask beside each source: the image itself."""
    beside = {role: ImageRef(path=plan.sources[0].path) for role in ("target", "labels", "mask")}
    sources = tuple(ref.model_copy(update=beside) for ref in plan.sources)
    return plan.model_copy(update={"sources": sources})


OTHERS: dict[str, dict[str, Any]] = {
    "depth": {"depth_axis": "T", "strategy": Random(size=(2, 16, 16), count=9)},
    "cast": {"dtype": "float32", "codec": "zstd", "channels": ("DAPI",)},
    "region": {"strategy": Tiled(size=(8, 8), region=Polygon(points=[(0, 0), (48, 0), (0, 32)]))},
    "filters": {"filters": [parse_filter("std>p20"), parse_filter("mask>0.5")]},
    "split": {"split": Split(val=0.3, by="block")},
}


@pytest.mark.parametrize(
    ("form", "kind"), [*((form, "plain") for form in FORMATS), *(("zarr", kind) for kind in OTHERS)]
)
def test_the_manifest_of_every_format_is_as_the_schema_says(
    czi: MakeCzi, tmp_path: Path, schema: dict[str, Any], form: str, kind: str
) -> None:
    fields = {"strategy": Tiled(size=(16, 16)), **OTHERS.get(kind, {})}
    out = tmp_path / f"a{FORMATS[form].suffix}"
    plan = paired(plan_for(czi(SCENE, xml=XML), out, format=form, **fields))
    export(plan).close()
    attributes = read_attributes(out)
    assert attributes is not None
    jsonschema.validate(attributes[MANIFEST], schema, jsonschema.Draft202012Validator)
    assert not list(verify(out))
    roles = {name.partition("/")[2] for name in attributes[MANIFEST]["arrays"]}
    assert roles == ({"image", "target", "labels"} if FORMATS[form].has_pixels else set())


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"schema_version": 3}, r"3 is not one of \[1, 2\]"),
        ({"arrays": {"../image": {}}}, "does not match any of the regexes"),
        ({"counts": {"all": "many"}}, "is not of type 'integer'"),
        ({"more": 1}, "Additional properties"),
    ],
)
def test_what_is_no_manifest_is_refused(
    czi: MakeCzi, tmp_path: Path, schema: dict[str, Any], change: dict[str, Any], said: str
) -> None:
    out = tmp_path / "a.patches.zarr"
    export(plan_for(czi(SCENE), out)).close()
    attributes = read_attributes(out)
    assert attributes is not None
    with pytest.raises(jsonschema.ValidationError, match=said):
        jsonschema.validate(attributes[MANIFEST] | change, schema)
