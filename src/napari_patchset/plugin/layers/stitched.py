"""From a stitched OME-Zarr to layers that lie over the scenes that its patches were cut from."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from napari.viewer import Viewer

from napari_patchset.exporting.plans.image_refs import ImageRef
from napari_patchset.patchset.reader import PatchSet
from napari_patchset.plugin.layers.scene import METADATA_KEY, RESULT_OF, LayerTuple, scene_layers
from napari_patchset.plugin.layers.viewer_images import (
    find_scene_layers,
    shown_files,
    shown_scenes,
)
from napari_patchset.plugin.lazy.channel import LazyChannel
from napari_patchset.plugin.overrides import image_path
from napari_patchset.source import SceneId
from napari_patchset.stacks.opening import list_scenes
from napari_patchset.stitching.stitch_folder import SUFFIX
from napari_patchset.stitching.stitched_image import StitchedImage, images_of


class Shown(NamedTuple):
    """Where the layers of a scene lie in the window, along their axes, and their colours."""

    axes: str
    scale: Sequence[float]
    translate: Sequence[float]
    units: Sequence[Any]
    colormaps: Sequence[Any] = ()


ShownPlaces = Mapping[tuple[Path, SceneId | None], Shown]
"""By file and scene."""


def shown_places(viewer: Viewer) -> ShownPlaces:
    """Return where each scene lies that the viewer shows; call it in the GUI thread."""
    places = {}
    for path in shown_files(viewer):
        for scene in shown_scenes(viewer, path):
            shown = find_scene_layers(viewer, path, scene)
            if shown is None:
                continue
            layer = shown.layers[0]
            data = layer.data[0] if layer.multiscale else layer.data
            if isinstance(data, LazyChannel):
                colors = [each.colormap for each in shown.layers if not each.rgb]
                where = layer.scale, layer.translate, layer.units
                places[path, scene] = Shown(data.axes, *where, colors)
    return places


def stitched_layers(out: Path, set_path: str, places: ShownPlaces) -> list[LayerTuple]:
    """Open those images of an OME-Zarr whose scenes are shown; none if no scene is."""
    with PatchSet(set_path) as patch_set:
        sources, provenance = patch_set.manifest.sources, patch_set.provenance
    scenes, layers = list_scenes(out), []
    images = images_of(sources, (), sources[0].dtype, (1,) * len(sources[0].spatial_shape))
    for scene, image in zip(scenes, images, strict=True):
        described = provenance.sources[image.source_index]
        ref = ImageRef(**{name: described.get(name) for name in ImageRef.model_fields})
        place = places.get((image_path(ref), ref.scene))
        if place is not None:
            result = ImageRef(path=str(out), scene=scene.id)
            pages = image.source_axis("Z")
            opened = scene_layers(result, place.axes.replace(pages, "Z"))
            for i, (data, options, kind) in enumerate(opened):
                name = f"{options['name']} ({out.name.removesuffix(SUFFIX)})"
                own = {**options, **lie_over(options, image, place), "name": name}
                if kind == "image" and sum(k == kind for *_, k in opened) == len(place.colormaps):
                    own["colormap"] = place.colormaps[i]  # those of the source's channels
                if kind == "image" and i == 0:
                    own["blending"] = "translucent_no_depth"  # covers the source, instead of adding
                tag = {**options["metadata"][METADATA_KEY], RESULT_OF: str(image_path(ref))}
                own["metadata"] = {**options["metadata"], METADATA_KEY: tag}
                layers.append((data, own, kind))
    return layers


def lie_over(options: Mapping[str, Any], image: StitchedImage, place: Shown) -> dict[str, Any]:
    """Return scale, position and units of a layer of an image, so that it lies over its scene.

    They follow the layers of the scene, which the user may have moved, and which know the time step
    of the file. The pixels of a prediction may be smaller or larger.
    """
    source, fixed = image.source, dict(image.fixed)
    known = (source.source_pixel_size or source.pixel_size).model_dump()
    scale, translate, units = [], [], []
    for own_scale, axis in zip(options["scale"], options["axis_labels"], strict=True):
        i, ratio = place.axes.index(image.source_axis(axis.upper())), 1.0
        if axis in known:
            ratio = own_scale / (known[axis] or 1.0)
        # napari counts from the centre of the first pixel.
        first = (ratio - 1) / 2 + fixed.get(axis.upper(), 0)
        scale.append(place.scale[i] * ratio)
        translate.append(place.translate[i] + place.scale[i] * first)
        units.append(place.units[i])
    return {"scale": scale, "translate": translate, "units": units}
