"""The base of every pydantic model here: frozen, and strict about names."""

from collections.abc import Callable
from typing import Any, get_args

from pydantic import BaseModel, ConfigDict, ValidationError


class Frozen(BaseModel):
    """Refuse changes after construction and fields that do not exist."""

    model_config = ConfigDict(frozen=True, extra="forbid")


def by_kind(union: Any) -> dict[str, Any]:
    """Give the models of a union that is told apart by the field `kind`, by their kind."""
    models = get_args(get_args(union)[0])
    return {model.model_fields["kind"].default: model for model in models}


def user_message(error: ValidationError, name: Callable[[str], str] = str) -> str:
    """Say in one line what is wrong with a model's arguments.

    Parameters
    ----------
    name : callable
        Gives what a person calls a field.
    """
    return "; ".join(_fault(fault, name) for fault in error.errors())


def _fault(fault: Any, name: Callable[[str], str]) -> str:
    kind, text, where = fault["type"], fault["msg"], name(_field(fault["loc"]))
    if kind == "value_error":  # said by a validator of ours, which names the field
        return str(text.removeprefix("Value error, "))
    if kind == "union_tag_invalid":
        tag, tags = (fault["ctx"][key] for key in ("tag", "expected_tags"))
        return f"there is no kind {tag!r}; it is one of {tags.replace(chr(39), '')}"
    if kind == "missing":
        return f"{where} is missing"
    if kind == "extra_forbidden":
        return f"there is no {where} here"
    must = text.replace("Input should be", "it must be")
    given = fault["input"]
    return f"{where} is {given!r}; {must}" if isinstance(given, str | float) else f"{where}: {must}"


def _field(loc: tuple[int | str, ...]) -> str:
    return next((part for part in reversed(loc) if isinstance(part, str)), "the value")
