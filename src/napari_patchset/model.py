"""The base of every pydantic model here: frozen, and strict about names."""

from pydantic import BaseModel, ConfigDict


class Frozen(BaseModel):
    """Refuse changes after construction and fields that do not exist."""

    model_config = ConfigDict(frozen=True, extra="forbid")
