"""The base class of all pydantic models, and their error messages in one line."""

from collections.abc import Callable
from typing import Any, get_args

from pydantic import BaseModel, ConfigDict, ValidationError


class Frozen(BaseModel):
    """A model that can't be changed and refuses unknown fields."""

    model_config = ConfigDict(frozen=True, extra="forbid")


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
    must = text.replace("Input should be", "it must be")
    value = fault["input"]
    return f"{field} is {value!r}; {must}" if isinstance(value, str | float) else f"{field}: {must}"


def _field(loc: tuple[int | str, ...]) -> str:
    return next((part for part in reversed(loc) if isinstance(part, str)), "the value")
