from lmadapt.curation.splitting import heldout_entities

NAMES = [f"e{n}" for n in range(100)]


def test_the_share_is_of_entities_and_follows_the_seed() -> None:
    chosen = heldout_entities(NAMES * 3, avoid=set(), fraction=0.1, seed=0)
    assert len(chosen) == 10
    assert chosen == heldout_entities(reversed(NAMES), avoid=set(), fraction=0.1, seed=0)
    assert chosen != heldout_entities(NAMES, avoid=set(), fraction=0.1, seed=1)


def test_avoided_entities_come_last() -> None:
    avoid = set(NAMES[:95])
    assert heldout_entities(NAMES, avoid=avoid, fraction=0.05, seed=0) == set(NAMES[95:])
    chosen = heldout_entities(NAMES, avoid=avoid, fraction=0.1, seed=0)
    assert set(NAMES[95:]) < chosen
    assert len(chosen) == 10


def test_new_entities_leave_most_of_the_choice_as_it_was() -> None:
    before = heldout_entities(NAMES, avoid=set(), fraction=0.1, seed=0)
    after = heldout_entities([*NAMES, "new"], avoid=set(), fraction=0.1, seed=0)
    assert len(before & after) >= 9


def test_at_least_one_is_held_out_and_never_all() -> None:
    assert len(heldout_entities(["a", "b"], avoid=set(), fraction=0.01, seed=0)) == 1
    assert heldout_entities(["a"], avoid=set(), fraction=0.9, seed=0) == set()
    assert heldout_entities([], avoid=set(), fraction=0.9, seed=0) == set()
    assert heldout_entities(NAMES, avoid=set(), fraction=0.0, seed=0) == set()
