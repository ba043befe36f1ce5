"""The plan that the widget saves, run by the command, gives the bytes that the widget gave."""

from pathlib import Path

import numpy as np
import pytest
from qtpy.QtWidgets import QFileDialog
from typer.testing import CliRunner

from napari_patchset import PatchSet
from napari_patchset.cli.app import app
from napari_patchset.patchset.writers import FORMATS
from napari_patchset.plugin.layers.viewer_images import plane_space
from support.czi_maker import MakeCzi, SceneSpec
from support.export_makers import digests
from support.window import Window


def test_every_format_with_everything_set(
    window: Window, czi: MakeCzi, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = SceneSpec(rect=(0, 0, 160, 128), t=2)
    target, image = czi(spec, name="target.czi"), czi(spec)
    window.open(target)
    window.open(image)
    window.type_size(16, 16)
    add_region(window, "shapes")
    form = window.widget.form
    form.pairs.boxes["target"].value = target
    form.pairs.boxes["mask"].value = target
    form.filters.keep.value = 20
    for text in ("mean>p30", "mask>0.5"):
        form.filters.text.value = text
        form.filters.text.native.returnPressed.emit()
    form.split.val.value = 30
    saved = tmp_path / "plan.json"
    monkeypatch.setattr(QFileDialog, "getSaveFileName", lambda *_: (str(saved), ""))
    for region, name in (("shapes", "zarr"), *(("labels", name) for name in FORMATS)):
        if region == "labels" and name == next(iter(FORMATS)):
            add_region(window, region)
        form.output.format.value = name
        suffix = FORMATS[name].suffix
        ours, theirs = (tmp_path / f"{region}_{name}_{by}{suffix}" for by in ("window", "command"))
        window.widget.export.out.value = ours
        saved.unlink(missing_ok=True)
        window.widget.export.save_plan.trigger()
        window.until(saved.exists)
        window.click(window.widget.export.start)
        window.until(lambda ours=ours: window.widget.export.status.value == f"Saved {ours.name}")
        ran = CliRunner().invoke(app, ["export", "--plan", str(saved), "--out", str(theirs)])
        assert ran.exit_code == 0, ran.output
        assert digests(ours) == digests(theirs), (region, name)
        counts = PatchSet(ours).manifest.counts
        assert counts["train"] > 0
        assert counts["val"] > 0


def add_region(window: Window, kind: str) -> None:
    """Leave the left part of the image, by shapes or by labels."""
    space = plane_space(window.images[1])
    if kind == "shapes":
        boxes = [np.array([[0, 0], [0, 100], [100, 100], [100, 0]]) - 0.5]
        boxes.append(np.array([[0, 112], [0, 160], [128, 160], [128, 112]]) - 0.5)
        layer = window.viewer.add_shapes(boxes, shape_type="polygon", **space)
    else:
        mask = np.zeros((128, 160), np.uint8)
        mask[:, :130] = 1
        layer = window.viewer.add_labels(mask, **space)
    where = window.widget.form.region.layer
    window.until(lambda: layer in where.choices)
    where.value = layer
