"""The form and the layers as one value: read as a `FormState`, and set from a loaded plan."""

from dataclasses import replace

from napari.layers import Image, Labels
from napari.viewer import Viewer

from napari_patchset.exporting.plans.image_refs import SourceRef
from napari_patchset.plugin.canvas.annotations import AnnotationControl
from napari_patchset.plugin.canvas.regions import RegionControl
from napari_patchset.plugin.descriptions import DESCRIPTIONS
from napari_patchset.plugin.form.form import RecipeForm
from napari_patchset.plugin.layers.layer_stack import register_layer
from napari_patchset.plugin.layers.viewer_images import check_straight
from napari_patchset.plugin.scene_context import LoadedPlan
from napari_patchset.plugin.scenes.source_control import SourceControl
from napari_patchset.plugin.state import FormState, plan_pairs, with_pairs


class PlanForm:
    """All that makes a plan but its destination: recipe, sources, region and annotations.

    Parameters
    ----------
    viewer : Viewer
        Where the layers are.
    recipe, sources, region, annotations : RecipeForm, SourceControl, ...
        The parts of the form.
    """

    def __init__(
        self,
        viewer: Viewer,
        recipe: RecipeForm,
        sources: SourceControl,
        region: RegionControl,
        annotations: AnnotationControl,
    ) -> None:
        self._viewer = viewer
        self._form, self._sources = recipe, sources
        self._region, self._annotations = region, annotations
        self._loaded = tuple[SourceRef, ...]()
        """The sources of the plan that was loaded last."""

    def read(self, out: str) -> FormState | None:
        """Return the form as one value, None while no file is open or it is still being read.

        Parameters
        ----------
        out : str
            The path of the patch set.

        Raises
        ------
        ArgumentError, ValidationError
            If its values do not fit each other.
        """
        form, shown, context = self._form, self._sources.shown_scene, self._sources.context
        if shown is None or context is None:
            return None
        check_straight(shown.layers[-1])
        sources, index = self._sources.sources(context)
        recipe = form.recipe(self._region.region(shown))
        keys = {info.key for ref in sources if (info := DESCRIPTIONS.latest(ref))}
        recipe = recipe.with_overrides_of(keys)
        sources = with_pairs(sources, form.pairs.of_image, self._loaded)
        sources = self._annotations.paired(sources)
        samples = form.split.samples
        state = FormState(sources, index, recipe, out, samples.path, form.split.shown_fold)
        sources = samples.assign(sources, lambda: state.names)
        return replace(state, sources=sources, class_colors=form.annotations.patch_colors)

    def load(self, loaded: LoadedPlan) -> None:
        """Show the first image of a plan, and set the form from the plan."""
        plan, form = loaded.plan, self._form
        self._sources.load(loaded)
        form.turn_to(loaded.context.path, is_alone=False)
        form.load(plan.recipe)
        self._region.load(plan.strategy, loaded.masks)
        self._annotations.load(plan.sources)
        self._loaded = tuple(
            source.model_copy(update={"labels": None}) if source.draws_labels else source
            for source in plan.sources
        )
        form.pairs.load(plan_pairs(self._loaded))
        form.split.samples.load(plan.sources)

    def refresh(self) -> list[str]:
        """Offer the current layers, and drop what depends on those that were removed.

        Returns
        -------
        list of str
            What was dropped.
        """
        notices = self._drop_removed()
        self._region.refresh()
        self._sources.refresh()
        self._annotations.refresh()
        self.offer_pairs()
        return notices

    def offer_pairs(self) -> None:
        """Offer the other open files and layers as the images paired with the shown one."""
        self._form.pairs.offer(self._sources.section.file.value, self._sources.others)

    def _drop_removed(self) -> list[str]:
        layers = [each for each in self._viewer.layers if isinstance(each, Image | Labels)]
        with self._form.changed.blocked():
            notices = [
                *self._form.pairs.drop_removed(set(map(register_layer, layers))),
                *self._region.drop_removed(),
                *self._annotations.drop_removed(),
            ]
        if notices:
            self._form.reset_inside()
        return notices
