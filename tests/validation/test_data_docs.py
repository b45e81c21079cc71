from pathlib import Path

import pandas as pd
from great_expectations import expectations as gxe

from lmadapt.core.files import folder_sha256
from lmadapt.validation.data_docs import run_suites

FRAME = pd.DataFrame(
    {
        "id": list("abcde"),
        "source": ["notes.md"] * 5,
        "location": [f"line {n}" for n in range(5)],
        "tokens": [1, 50, 60, 70, 80],
    }
)


def suites(column: str = "tokens") -> dict[str, list[object]]:
    expectation = gxe.ExpectColumnValuesToBeBetween(
        column=column,
        max_value=10,
        severity="critical",
        description="few tokens",
        meta={"name": "notes.tokens"},
    )
    return {"notes": [expectation]}


def test_a_result_names_the_count_and_three_failing_rows(tmp_path: Path) -> None:
    (result,) = run_suites(suites(), {"notes": FRAME}, tmp_path)
    assert (result.success, result.severity, result.rows, result.failing) == (
        False,
        "error",
        5,
        4,
    )
    assert str(result) == (
        "notes.tokens: 4 of 5 rows fail; expected: few tokens; for example "
        "notes.md line 1 b (50); notes.md line 2 c (60); notes.md line 3 d (70)"
    )


def test_an_exception_inside_an_expectation_fails_it_and_is_reported(tmp_path: Path) -> None:
    (result,) = run_suites(suites("absent"), {"notes": FRAME}, tmp_path)
    assert not result.success
    assert "absent" in result.exception
    assert str(result).startswith("notes.tokens: could not be checked: ")


def test_a_frame_without_rows_meets_row_expectations(tmp_path: Path) -> None:
    (result,) = run_suites(suites(), {"notes": FRAME[:0]}, tmp_path)
    assert (result.success, result.exception) == (True, "")


def test_data_docs_of_equal_data_are_equal_files_that_load_no_remote_logo(tmp_path: Path) -> None:
    for name in ("first", "second"):
        run_suites(suites(), {"notes": FRAME}, tmp_path / name)
    assert folder_sha256(tmp_path / "first") == folder_sha256(tmp_path / "second")
    pages = list((tmp_path / "first").rglob("*.html"))
    assert len(pages) == 3
    for page in pages:
        assert "great-expectations-web-assets" not in page.read_text(encoding="utf-8")
    (result,) = (tmp_path / "first" / "validations").rglob("*.html")
    assert "few tokens" in result.read_text(encoding="utf-8")


def test_values_from_data_are_shown_as_text_and_no_script_may_run(tmp_path: Path) -> None:
    planted = '<img src=x onerror="steal()"><script>steal()</script>'
    frame = FRAME.assign(source=planted, text=planted)
    shown = gxe.ExpectColumnValuesToBeInSet(
        column="text", value_set=["ok"], description="known", meta={"name": "notes.text"}
    )
    (result,) = run_suites({"notes": [shown]}, {"notes": frame}, tmp_path)
    assert planted in str(result)
    (page,) = (tmp_path / "validations").rglob("*.html")
    text = page.read_text(encoding="utf-8")
    assert "&lt;img src=x onerror=&quot;steal()&quot;&gt;&lt;script&gt;steal()" in text
    assert "<img src=x" not in text
    for page in tmp_path.rglob("*.html"):
        text = page.read_text(encoding="utf-8")
        assert "<script" not in text.lower()
        assert "default-src 'none'" in text.partition("<link")[0]
