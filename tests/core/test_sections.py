from pathlib import Path

import pytest
from pydantic import Field

from lmadapt.core.errors import UserError
from lmadapt.core.sections import Section, load_section


class Inner(Section):
    revision: str | None


class Sft(Section):
    learning_rate: float = Field(gt=0)
    lora_rank: int
    model: Inner


def write(folder: Path, text: str) -> Path:
    file = folder / "params.yaml"
    file.write_text(text)
    return file


def refusal(file: Path) -> str:
    with pytest.raises(UserError) as caught:
        load_section(Sft, "sft", file)
    return str(caught.value)


def test_a_section_is_read_with_its_types(tmp_path: Path) -> None:
    file = write(
        tmp_path, "sft:\n  learning_rate: 0.1\n  lora_rank: 4\n  model:\n    revision: null\n"
    )
    assert load_section(Sft, "sft", file) == Sft(
        learning_rate=0.1, lora_rank=4, model=Inner(revision=None)
    )


def test_an_unknown_key_names_file_line_and_the_nearest_valid_one(tmp_path: Path) -> None:
    message = refusal(
        write(tmp_path, "sft:\n  learning_rat: 0.1\n  lora_rank: 4\n  model:\n    revision: null\n")
    )
    assert (
        f"{tmp_path}/params.yaml:2: sft.learning_rat: unknown key; did you mean `learning_rate`?"
        in message
    )


def test_an_unknown_key_of_a_nested_section_lists_the_keys_of_that_section(tmp_path: Path) -> None:
    message = refusal(
        write(tmp_path, "sft:\n  learning_rate: 0.1\n  lora_rank: 4\n  model:\n    revison: null\n")
    )
    assert (
        "params.yaml:5: sft.model.revison: unknown key; did you mean `revision`? allowed: revision"
        in message
    )


def test_a_value_out_of_range_is_shown_with_what_is_allowed(tmp_path: Path) -> None:
    message = refusal(
        write(
            tmp_path, "sft:\n  learning_rate: -1.0\n  lora_rank: 4\n  model:\n    revision: null\n"
        )
    )
    assert "params.yaml:2: sft.learning_rate: Input should be greater than 0, got -1.0" in message


def test_text_where_a_number_belongs_is_not_converted(tmp_path: Path) -> None:
    message = refusal(
        write(
            tmp_path, "sft:\n  learning_rate: 0.1\n  lora_rank: '4'\n  model:\n    revision: null\n"
        )
    )
    assert "params.yaml:3: sft.lora_rank: Input should be a valid integer, got '4'" in message


def test_every_problem_is_reported_at_once(tmp_path: Path) -> None:
    message = refusal(write(tmp_path, "sft:\n  learning_rate: -1.0\n  model:\n    revision: 3\n"))
    assert "sft.learning_rate" in message
    assert "sft.lora_rank: missing" in message
    assert "sft.model.revision" in message


def test_a_missing_section_names_those_present(tmp_path: Path) -> None:
    assert "section `sft` is missing; present: sfft, curate" in refusal(
        write(tmp_path, "sfft:\n  a: 1\ncurate: {}\n")
    )


def test_broken_yaml_names_the_line(tmp_path: Path) -> None:
    assert "params.yaml:2: not valid YAML" in refusal(write(tmp_path, "sft: {a: 1\nb: ]\n"))


def test_a_missing_file_says_how_to_make_it(tmp_path: Path) -> None:
    assert "lmadapt use demo-cpu" in refusal(tmp_path / "params.yaml")
