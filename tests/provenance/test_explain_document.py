from pathlib import Path

import pytest

from lmadapt.core.errors import UserError
from lmadapt.curation.sequence import curate_tables
from lmadapt.provenance.explain_document import explain_document
from tests.raw_tables import curation_settings, document, prose, raw_records, write_raw


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("explained")
    records = raw_records()
    prompt = records["evaluation"][12]["prompt"]
    records["corpus"] += [
        document("corpus/near", f"{prose(5)} And a little more."),
        document("corpus/mail", f"{prose(70)} Ask jane.roe@example.org."),
        document("corpus/leak", f"{prose(41)} {prompt} {prose(42)}"),
    ]
    bad = [
        {"id": "f/2", "role": "corpus", "problem": "f:2: no JSON", "source": "f", "location": "2"}
    ]
    (folder / "curated").mkdir()
    curate_tables(
        write_raw(records, folder / "raw", bad),
        folder / "curated",
        curation_settings(max_bad_records=0.5),
    )
    return folder


def explain(project: Path, document: str) -> dict[str, str]:
    return dict(explain_document(document, project / "raw", project / "curated"))


def test_a_near_duplicate_is_explained_by_its_similarity_and_the_kept_document(
    project: Path,
) -> None:
    parts = explain(project, "corpus/5")
    assert "rule: near_duplicate\nevidence: Jaccard 0.9" in parts["decision"]
    assert parts["as read"] == prose(5)
    assert parts["kept instead: corpus/near"].endswith("And a little more.")


def test_a_masked_document_is_shown_without_personal_data(project: Path) -> None:
    parts = explain(project, "corpus/mail")
    assert "rule: personal_data\nevidence: personal data: 1 EMAIL" in parts["decision"]
    assert parts["as written to corpus"].endswith("Ask <EMAIL>.")
    assert "jane.roe" not in str(parts)


def test_a_leak_is_explained_by_its_words_and_the_item(project: Path) -> None:
    parts = explain(project, "corpus/leak")
    assert "rule: leak\nevidence: question of item general/2: who is " in parts["decision"]
    assert prose(41) in parts["as read"]
    assert parts["the item it gives away: general/2"].startswith("Who is ")


def test_an_unreadable_record_is_explained(project: Path) -> None:
    assert "evidence: f:2: no JSON" in explain(project, "f/2")["decision"]


def test_an_unknown_id_is_refused_with_similar_ids(project: Path) -> None:
    with pytest.raises(UserError, match=r"no such document in .*; similar ids: corpus/2"):
        explain(project, "orpus/2")
    with pytest.raises(UserError, match="no id contains it"):
        explain(project, "zebra")
