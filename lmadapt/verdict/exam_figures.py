"""The figures of an exam: section `exam` of metrics/evaluate.json and of lineage.json.

They stand apart from figures.py because they describe the questions, not the models.
"""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

Sha256 = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
Count = Annotated[int, Field(ge=0)]
Positive = Annotated[int, Field(ge=1)]


class ExamFigures(BaseModel):
    """The exam that was asked."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    sha256: Sha256 = Field(
        description="Of what all its items ask and accept, and of how they are grouped."
    )
    level: float = Field(
        gt=0,
        lt=0.5,
        description="One-sided level of each test: evaluate.significance, divided by the "
        "candidates and adjusted for planned looks.",
    )
    candidates: Positive = Field(description="Models that are judged side by side on the exam.")
    looks: Positive | Literal["any"] = Field(
        description="Planned looks while items are added; `any`: tests that hold at any look."
    )
    planned_items: Positive | None = Field(description="Items at the last planned look.")
    items: Positive = Field(description="Domain and general items that the verdict is on.")
    sealed_items: Count = Field(
        description="Domain and general items that only `lmadapt promote` asks."
    )

    def in_words(self) -> list[str]:
        """What changes the level or leaves items out, one sentence each; empty by default."""
        said = []
        if self.candidates > 1:
            said.append(f"{self.candidates} candidates divide the level (evaluate.candidates)")
        if self.looks == "any":
            said.append("intervals and tests hold at any look (evaluate.looks: any)")
        elif self.looks > 1:
            said.append(
                f"one of {self.looks} planned looks, with up to {self.planned_items:,} items"
            )
        if said:
            said.append(f"each test has the level {self.level:.4g}")
        if self.sealed_items:
            said.append(f"{self.sealed_items:,} sealed items are asked by `lmadapt promote` alone")
        return said
