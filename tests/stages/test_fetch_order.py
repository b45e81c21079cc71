"""In which order the stage fetch looks at the model and at the data."""

import shutil
from pathlib import Path

import pytest

from lmadapt.core.errors import UserError
from stages.fetch import FetchParams, ModelParams, SourcesParams, fetch


def test_a_bad_model_is_refused_before_any_data_is_read(tiny_model: Path, tmp_path: Path) -> None:
    model = Path(shutil.copytree(tiny_model, tmp_path / "model"))
    weights = model / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1])
    source = {"path": "no/such/file.jsonl"}
    params = FetchParams(
        model=ModelParams(
            name_or_path=str(model),
            revision=None,
            module=None,
            sha256=None,
            chat_template="plain",
            trust_remote_code=False,
        ),
        packages={},
        sources=SourcesParams.model_validate(
            {
                "corpus": [source],
                "instructions": [{"path": "b"}],
                "general_text": [],
                "general_instructions": [],
                "evaluation": [{"path": "c"}],
            }
        ),
    )
    with pytest.raises(UserError, match=r"model\.safetensors has \d+ bytes"):
        fetch(params, tmp_path / "base", tmp_path / "raw", tmp_path / "fetch.json")
