"""The figures of an exam: section `exam` of metrics/evaluate.json and of lineage.json.

They stand apart from figures.py because they describe the questions, not the models.
"""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

Sha256 = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
Positive = Annotated[int, Field(ge=1)]


class ExamFigures(BaseModel):
    """The exam that was asked."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    sha256: Sha256 = Field(
        description="Of what all its items ask and accept, and of how they are grouped."
    )
    items: Positive = Field(description="Domain and general items that the verdict is on.")
