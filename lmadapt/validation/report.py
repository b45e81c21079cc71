"""What metrics/validate.json holds."""

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from lmadapt.validation.data_docs import ExpectationResult
from lmadapt.validation.measured_tables import PLACE


def report_metrics(
    results: Sequence[ExpectationResult], frames: Mapping[str, pd.DataFrame]
) -> dict[str, Any]:
    """Every expectation with its result, the number of warnings, and the measured sizes."""
    sizes = frames["sizes"].set_index("id").drop(columns=["source", "location"])
    return {
        "expectations": {one.name: _figures(one) for one in results},
        "warnings": sum(not one.success for one in results),
        "totals": frames["totals"].drop(columns=PLACE).to_dict("records")[0],
        "sizes": sizes.to_dict("index"),
    }


def _figures(result: ExpectationResult) -> dict[str, Any]:
    return {
        "success": result.success,
        "severity": result.severity,
        "max_failing_fraction": result.max_failing_fraction,
        "rows": result.rows,
        "failing": result.failing,
    }
