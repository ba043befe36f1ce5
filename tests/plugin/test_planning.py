"""The preview of sets of files counts what their export writes."""

import warnings
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from napari_patchset import Tiled, export
from napari_patchset.exporting.plan import Recipe
from napari_patchset.plugin.overrides import source_ref
from napari_patchset.plugin.planning import plan_form
from napari_patchset.plugin.state import FormState
from napari_patchset.stacks.opening import list_scenes
from support.set_makers import SET_KINDS, names_of, write_sets


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_sets(tmp_path_factory.mktemp("sets"))


@pytest.mark.parametrize("kind", SET_KINDS)
@settings(max_examples=6)
@given(data=st.data())
def test_a_set_is_counted_once_however_it_is_named(
    kind: str, data: st.DataObject, folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """As the window names its sources: each file with all of its scenes."""
    out = tmp_path_factory.mktemp("out") / "set.patches.zarr"
    recipe = Recipe(strategy=Tiled(size=(16, 16)))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        named = dict.fromkeys(data.draw(names_of(folder, kind)))
        refs = [source_ref(path, scene.id) for path in named for scene in list_scenes(path)]
        shown = data.draw(st.integers(0, len(refs) - 1))
        planned = plan_form(FormState(tuple(refs), shown, recipe, str(out)))
        with export(FormState(tuple(refs), shown, recipe, str(out)).plan()) as patches:
            assert len(planned.grid) == len(patches["all"])
            assert [info.key for info in planned.sources] == [
                info.key for info in patches.manifest.sources
            ]
        assert planned.shown_source in planned.sources
