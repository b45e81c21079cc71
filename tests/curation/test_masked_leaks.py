import pyarrow as pa

from lmadapt.core.tables import RAW_TABLES
from lmadapt.curation.decontamination import LeakFinder
from lmadapt.curation.screening import ScreenedGroup, ScreeningRules, screen
from tests.raw_tables import FILTERS, PERSONAL_DATA, item

QUESTION = "Which port does the service on 91.198.174.192 listen on?"


def screened(*messages: tuple[str, str]) -> ScreenedGroup:
    row = {
        "id": "t",
        "source": "s",
        "location": "1",
        "messages": [{"role": role, "content": content} for role, content in messages],
        "category": "c",
        "entity": "",
    }
    rules = ScreeningRules(
        role="instructions",
        filters=FILTERS,
        languages=[],
        min_language_confidence=0.65,
        personal_data=PERSONAL_DATA,
        boilerplate={},
        leaks=LeakFinder([item("i", QUESTION, "8443")], ngram_words=13, in_corpus=False),
    )
    return screen(pa.Table.from_pylist([row], schema=RAW_TABLES["instructions"]), rules)


def test_a_leak_is_found_where_personal_data_in_it_was_replaced() -> None:
    group = screened(("user", QUESTION), ("assistant", "It listens on 8443."))
    assert "91.198" not in str(group.table.to_pylist())
    assert [leak.item for leak in group.rows[0].leaks] == ["i"]


def test_a_leak_before_and_after_masking_counts_once() -> None:
    said = f"{QUESTION} Mail ann@example.com."
    group = screened(("user", said.replace("91.198.174.192", "host")), ("assistant", said))
    assert len(group.rows[0].leaks) == 1


def test_the_message_of_the_system_is_still_not_searched() -> None:
    group = screened(("system", QUESTION), ("user", "Hello to you"), ("assistant", "It is me."))
    assert group.rows[0].leaks == ()
