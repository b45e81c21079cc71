"""The base class and the field types of all figures.

This module loads no library but pydantic.
"""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field
from typing_extensions import TypeAliasType

Share = Annotated[float, Field(ge=0, le=1)]
Count = Annotated[int, Field(ge=0)]
Positive = Annotated[int, Field(ge=1)]
NonNegative = Annotated[float, Field(ge=0)]
Interval = TypeAliasType(
    "Interval", Annotated[tuple[float, float], Field(description="Lower end and upper end.")]
)


class Figures(BaseModel):
    """Base of all figures: immutable; unknown keys, NaN and infinity are errors."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)
