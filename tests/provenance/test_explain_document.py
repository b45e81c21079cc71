from pathlib import Path

import pytest

from lmadapt.core.errors import UserError
from lmadapt.curation.sequence import curate_tables
from lmadapt.provenance.explain_document import tell_story
from tests.raw_tables import curation_settings, document, prose, raw_records, write_raw


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("story")
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


def story(project: Path, name: str) -> dict[str, str]:
    return dict(tell_story(name, project / "raw", project / "curated"))


def test_a_near_duplicate_is_told_with_its_text_its_similarity_and_what_was_kept(
    project: Path,
) -> None:
    told = story(project, "corpus/5")
    assert "rule: near_duplicate\nevidence: Jaccard 0.9" in told["decision"]
    assert told["as it came"] == prose(5)
    assert told["kept instead: corpus/near"].endswith("And a little more.")


def test_a_masked_document_is_told_without_what_was_masked(project: Path) -> None:
    told = story(project, "corpus/mail")
    assert "rule: personal_data\nevidence: personal data: 1 EMAIL" in told["decision"]
    assert told["as it stands in corpus"].endswith("Ask <EMAIL>.")
    assert "jane.roe" not in str(told)


def test_a_leak_is_told_with_the_words_and_the_item(project: Path) -> None:
    told = story(project, "corpus/leak")
    assert "rule: leak\nevidence: question of item general/2: who is " in told["decision"]
    assert prose(41) in told["as it came"]
    assert told["the item it gives away: general/2"].startswith("Who is ")


def test_a_record_that_could_not_be_read_is_told(project: Path) -> None:
    assert "evidence: f:2: no JSON" in story(project, "f/2")["decision"]


def test_an_unknown_id_names_those_that_contain_it(project: Path) -> None:
    with pytest.raises(UserError, match="no such document; ids like it: corpus/2"):
        story(project, "orpus/2")
    with pytest.raises(UserError, match="none is like it"):
        story(project, "zebra")
