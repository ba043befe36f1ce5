"""The annotations of a plan's sources, opened as images of their classes."""

from collections.abc import Callable, Generator, Iterable, Sequence
from contextlib import ExitStack
from functools import partial

from napari_patchset.annotations.features import (
    AnnotationClass,
    Annotations,
    ClassLabel,
    label_classes,
)
from napari_patchset.annotations.geojson import is_geojson
from napari_patchset.annotations.polygons import MAX_CLASSES
from napari_patchset.channels import format_channels
from napari_patchset.errors import ArgumentError, MissingAnnotationsError, UnquotedNameError
from napari_patchset.exporting.plans.image_refs import (
    ANNOTATIONS,
    AnnotationsRef,
    ImageRef,
    SourceRef,
)
from napari_patchset.exporting.plans.region_files import read_annotations
from napari_patchset.exporting.reading.steps import Step, run_in_thread
from napari_patchset.patching.filters.patch_filters import PatchFilter, ShareFilter
from napari_patchset.patching.strategies.base import PatchStrategy
from napari_patchset.source import SourceInfo
from napari_patchset.stacks.classes import (
    AnnotationStack,
    ClassLabelStack,
    ClassStack,
    NamedLabelStack,
)
from napari_patchset.stacks.fingerprint import content_key
from napari_patchset.stacks.protocol import ClosableStack


def annotations_in_steps(
    path: str, check_cancelled: Callable[[], None]
) -> Generator[Step, None, Annotations]:
    """Read a GeoJSON file in a thread; see `read_annotations` and `run_in_thread`."""
    return run_in_thread(partial(read_annotations, path), check_cancelled, "read")


def is_of_classes(role: str, ref: ImageRef) -> bool:
    """Return whether an image of a role is made of annotations."""
    return role == ANNOTATIONS or is_geojson(ref.path)


def open_classes(
    role: str,
    ref: ImageRef,
    image: SourceInfo,
    classes: Sequence[ClassLabel],
    open_labels: Callable[[], ClosableStack],
    check_cancelled: Callable[[], None] = lambda: None,
) -> ClosableStack:
    """Open annotations as an image of a role: one channel for each class, or labels.

    Parameters
    ----------
    image : SourceInfo
        The source, at the pixel size of the plan.
    classes : sequence of ClassLabel
        The classes of all sources; empty for those of this one.
    open_labels : callable
        Opens the image at `ref`, if it is one.
    """
    with ExitStack() as on_error:
        stack: ClassStack
        if is_geojson(ref.path):
            annotations = read_annotations(ref.path, lambda *_: check_cancelled())
            own = list(annotations.classes)
            stack = AnnotationStack(annotations, image, classes or own, ref.path)
        else:
            labels = open_labels()
            on_error.callback(labels.close)
            values = dict(ref.classes) if isinstance(ref, AnnotationsRef) else {}
            own = [AnnotationClass(name=name) for name in values]
            stack = NamedLabelStack(labels, image, values, classes or own, content_key(labels))
        on_error.pop_all()
    if role == ANNOTATIONS:
        return stack
    by_name = {each.name: each.value for each in classes or label_classes(own)}
    return ClassLabelStack(stack, by_name)


def classes_of(
    sources: Sequence[SourceRef], own: Iterable[AnnotationClass]
) -> tuple[ClassLabel, ...]:
    """Return the classes of all sources, from the classes of each.

    Raise ArgumentError if there are too many, or a value has two names, or a name two values.
    """
    values = dict[str, int]()
    for ref in sources:
        for name, value in ref.annotations.classes if ref.annotations else ():
            before = next((n for n, v in values.items() if v == value), name)
            if before != name or values.get(name, value) != value:
                raise ArgumentError(
                    f"The value {value} of {ref.annotations} is {name!r}, but other sources have "
                    f"{before!r} = {values[before]}; give a class one value in all of them."
                )
            values[name] = value
    classes = label_classes(own, values)
    if classes and classes[-1].value > MAX_CLASSES:
        raise ArgumentError(
            f"The sources have {len(classes)} classes, more than {MAX_CLASSES} values; give their "
            "annotations fewer."
        )
    return classes


def check_classes(
    strategy: PatchStrategy,
    filters: Iterable[PatchFilter],
    classes: Sequence[ClassLabel],
    is_annotated: bool,
) -> None:
    """Refuse a region or a filter of a class that no source has.

    `is_annotated` is whether the sources have annotations, maybe without an outline. Raise
    MissingAnnotationsError if not, UnquotedNameError if it is a part of the
    name of another class, else ArgumentError.
    """
    shares = (each for each in filters if isinstance(each, ShareFilter))
    named = (*strategy.named_classes, *(name for each in shares for name in each.class_names))
    has = [each.name for each in classes]
    missing = next((name for name in named if name not in has), None)
    if missing is None:
        return
    if not has and is_annotated:
        raise ArgumentError(
            f"There is no class {missing!r}, as the annotations have no outline; draw some, or "
            "name other files."
        )
    if not has:
        raise MissingAnnotationsError(
            f"There is no class {missing!r}, as there are no annotations; add those of every "
            "source."
        )
    listed = ", ".join(format_channels([name]) for name in has)
    fault = f"There is no class {missing!r}; the annotations have {listed}."
    for name in has:
        if missing in [part.strip() for part in name.split(",")]:
            raise UnquotedNameError(f"{fault} Write {format_channels([name])} with its quotes.")
    raise ArgumentError(fault)
