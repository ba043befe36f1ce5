"""The base of every pydantic model here: frozen, and strict about names."""

from typing import Any, get_args

from pydantic import BaseModel, ConfigDict


class Frozen(BaseModel):
    """Refuse changes after construction and fields that do not exist."""

    model_config = ConfigDict(frozen=True, extra="forbid")


def by_kind(union: Any) -> dict[str, Any]:
    """Give the models of a union that is told apart by the field `kind`, by their kind."""
    models = get_args(get_args(union)[0])
    return {model.model_fields["kind"].default: model for model in models}
