"""The base class of all pydantic models, and their error messages in one line."""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Self, get_args

from pydantic import BaseModel, ConfigDict, ValidationError

from napari_patchset.errors import ArgumentError


class Frozen(BaseModel):
    """A model that can't be changed and refuses unknown fields.

    Wrong arguments are an ArgumentError. `model_validate` raises pydantic's ValidationError, for
    those who name the fields in their own words.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    if not TYPE_CHECKING:  # to a type checker, the fields are the arguments

        def __init__(self, **fields: Any) -> None:
            try:
                super().__init__(**fields)
            except ValidationError as error:
                name = type(self).__name__
                raise ArgumentError(f"{name}: {user_message(error)}.") from None

        # A model that is a field of another one is validated without it, so that the error, of
        # all fields, is one.
        __init__.__pydantic_base_init__ = True


class Settings(Frozen):
    """A model that a user makes, and makes again with other values."""

    def model_copy(self, *, update: Mapping[str, Any] | None = None, deep: bool = False) -> Self:
        """Return a copy, with some fields changed, as if it were made with these."""
        copy = super().model_copy(deep=deep)
        if not update:
            return copy
        fields = {name: getattr(copy, name) for name in type(self).model_fields}
        return type(self)(**{**fields, **update})


def by_kind(union: Any) -> dict[str, Any]:
    """Return the models of a union, discriminated by the field `kind`, by their kind."""
    models = get_args(get_args(union)[0])
    return {model.model_fields["kind"].default: model for model in models}


def user_message(error: ValidationError, name: Callable[[str], str] = str) -> str:
    """Return the faults of a model's arguments in one line.

    Parameters
    ----------
    name : callable
        Maps a field to the name that the user knows.
    """
    return "; ".join(_fault(fault, name) for fault in error.errors())


def _fault(fault: Any, name: Callable[[str], str]) -> str:
    kind, text, field = fault["type"], fault["msg"], name(_field(fault["loc"]))
    if kind == "value_error":  # from our own validator, which names the field
        return str(text).removeprefix("Value error, ").removesuffix(".")
    if kind == "union_tag_invalid":
        tag, tags = (fault["ctx"][key] for key in ("tag", "expected_tags"))
        return f"there is no kind {tag!r}; it is one of {tags.replace(chr(39), '')}"
    if kind == "missing":
        return f"{field} is missing"
    if kind == "extra_forbidden":
        return f"there is no {field} here"
    must, value = text.replace("Input should be", "it must be"), fault["input"]
    if kind in ("model_type", "model_attributes_type"):
        must = "it must be made by its class, or a dict of its fields"
    simple = isinstance(value, str | int | float)
    return f"{field} is {value!r}; {must}" if simple else f"{field}: {must}"


def _field(loc: tuple[int | str, ...]) -> str:
    return next((part for part in reversed(loc) if isinstance(part, str)), "the value")
