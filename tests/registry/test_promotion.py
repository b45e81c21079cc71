"""Promotion by one process, and by many at once against PostgreSQL behind `mlflow server`."""

import json
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import mlflow
import pytest

from lmadapt.core.errors import Unavailable, UserError
from lmadapt.registry.connection import connect
from lmadapt.registry.lock import registry_lock
from lmadapt.registry.promotion import promote, roll_back
from lmadapt.registry.upload import find_experiment, upload_version
from lmadapt.registry.versions import aliased_version, named_version, versions_of
from tests.adapted import make_lineage, write_predictions
from tests.fork_server import fork_server
from tests.registry_server import mlflow_server, postgresql

MARGINS = {"margin": 0.02, "category_margin": 0.05, "significance": 0.05}


def make_version(client: mlflow.MlflowClient, folder: Path, number: int, **changes: Any) -> Any:
    """A verified version without a model; its predictions have the given wrong answers."""
    verdict = changes.pop("verdict", "SHIP")
    write_predictions(folder, **{"domain_wrong": 30, **changes})
    shipped = folder / "model"
    shipped.mkdir(exist_ok=True)
    (shipped / "weights.safetensors").write_text(str(number))
    version = upload_version(
        client,
        "tiny",
        find_experiment(client, "tests", folder),
        shipped=shipped,
        config={"artifact_sha256": "0"},
        lineage=make_lineage(params={"evaluate": MARGINS}),
        tags={"content_sha256": str(number), "verdict": verdict, "verdict_reason": "as told"},
        documents=[folder / "reports/predictions.parquet"],
    )
    client.set_terminated(version.run_id)
    client.set_model_version_tag("tiny", version.version, "status", "verified")
    return client.get_model_version("tiny", version.version)


def register_and_promote(address: str, folder: Path, number: int) -> tuple[int, str]:
    """What one of many processes does: the higher its number, the better the domain."""
    mine = folder / str(number)
    mine.mkdir()
    client = connect(address, mine)
    promotion = promote(
        client,
        make_version(client, mine, number // 2, domain_wrong=40 - number // 2),
        candidate=True,
    )
    return promotion.version, promotion.refusal


@pytest.fixture
def server(tmp_path: Path) -> Iterator[str]:
    folder = tmp_path / "server"
    folder.mkdir()
    with postgresql() as database, mlflow_server(database, folder / "artifacts") as address:
        yield address


@pytest.mark.parametrize(
    "processes", [6, pytest.param(20, marks=[pytest.mark.faults, pytest.mark.timeout(1500)])]
)
def test_processes_at_once_leave_one_champion_and_reasons_for_refusals(
    server: str, tmp_path: Path, processes: int
) -> None:
    with fork_server().Pool(processes, maxtasksperchild=1) as pool:
        outcomes = pool.starmap(
            register_and_promote,
            [(server, tmp_path, number) for number in range(processes)],
            chunksize=1,
        )
    client = connect(server, tmp_path)
    versions = [version for version, _ in versions_of(client, "tiny")]
    contents = processes // 2  # each content was registered by two
    assert len(versions) == contents
    assert sorted({number for number, _ in outcomes}) == list(range(1, contents + 1))
    champion = aliased_version(client, "tiny", "champion")
    over = [
        version.tags["promoted_over"] for version in versions if "promoted_over" in version.tags
    ]
    assert champion is not None
    assert len(over) == len(set(over))  # no two took over from the same champion
    assert {number for number, refusal in outcomes if not refusal} >= {int(champion.version)}
    assert all(
        "against version" in refusal or "at the same time" in refusal
        for _, refusal in outcomes
        if refusal
    )
    assert [model.name for model in client.search_registered_models()] == [
        "tiny"
    ]  # no lock is left
    runs = client.search_runs([client.get_experiment_by_name("tests").experiment_id])
    assert {run.info.run_id for run in runs} == {version.run_id for version in versions}
    assert {run.info.status for run in runs} == {"FINISHED"}
    other = next(version for version in versions if version.version != champion.version)
    assert promote(client, other, reason="a drill").refusal == ""
    assert roll_back(client, "tiny", "the drill is over") == (
        int(other.version),
        int(champion.version),
    )
    assert aliases(client)["champion"] == int(champion.version)


@pytest.fixture(scope="module")
def empty(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file of an empty registry, because making its tables takes seconds."""
    folder = tmp_path_factory.mktemp("empty")
    connect("sqlite:///mlflow.db", folder)
    return folder / "mlflow.db"


@pytest.fixture
def client(tmp_path: Path, empty: Path, monkeypatch: pytest.MonkeyPatch) -> mlflow.MlflowClient:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    shutil.copy(empty, tmp_path / "mlflow.db")
    return connect("sqlite:///mlflow.db", tmp_path)


def aliases(client: mlflow.MlflowClient) -> dict[str, int]:
    return {
        alias: int(number) for alias, number in client.get_registered_model("tiny").aliases.items()
    }


def test_a_better_version_takes_over_and_rollback_gives_back(
    client: mlflow.MlflowClient, tmp_path: Path
) -> None:
    first, second, third = (
        make_version(client, tmp_path, i, domain_wrong=40 - 10 * i) for i in range(3)
    )
    assert [promote(client, version).refusal for version in (first, second, third)] == ["", "", ""]
    assert aliases(client) == {"champion": 3, "previous": 2}
    assert roll_back(client, "tiny", "it answers in French") == (3, 2)
    assert aliases(client) == {"champion": 2, "previous": 1}
    assert promote(client, third).refusal == "it was rolled back: it answers in French"
    assert roll_back(client, "tiny", "") == (2, 1)
    assert aliases(client) == {"champion": 1}
    with pytest.raises(UserError, match="cannot roll back: no champion, or no champion before it"):
        roll_back(client, "tiny", "")


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        (
            {"domain_wrong": 30},
            "against version 1, the champion: The domain is not shown to be better",
        ),
        (
            {"domain_wrong": 0, "general_wrong": 30},
            "against version 1, the champion: .* became worse by",
        ),
        (
            {"domain_wrong": 0, "items": "other"},
            "answered other items; `lmadapt promote tiny/2` asks it the items",
        ),
        ({"domain_wrong": 0, "verdict": "HOLD"}, "the verdict is HOLD: as told"),
    ],
)
def test_a_version_that_is_not_shown_to_be_better_is_refused_unless_forced(
    client: mlflow.MlflowClient, tmp_path: Path, changes: dict[str, Any], why: str
) -> None:
    promote(client, make_version(client, tmp_path, 1))
    version = make_version(client, tmp_path, 2, **changes)
    refused = promote(client, version, candidate=True)
    assert refused.aliases == ["candidate"]
    with pytest.raises(AssertionError, match=why):
        raise AssertionError(refused.refusal)
    assert aliases(client) == {"champion": 1, "candidate": 2}
    assert promote(client, version, reason="the board wants it").refusal == ""
    assert aliases(client) == {"champion": 2, "previous": 1, "candidate": 2}
    assert client.get_model_version("tiny", "2").tags["forced_because"] == "the board wants it"


def test_not_even_force_makes_an_unverified_version_champion(
    client: mlflow.MlflowClient, tmp_path: Path
) -> None:
    version = make_version(client, tmp_path, 1)
    client.set_model_version_tag("tiny", "1", "status", "broken")
    assert "its status is broken" in promote(client, version, reason="please").refusal
    assert aliases(client) == {}


def test_a_dead_holder_of_the_lock_is_displaced_after_its_lease(
    client: mlflow.MlflowClient,
) -> None:
    client.create_registered_model("tiny.lock", description="a process that died")
    began = time.monotonic()
    with registry_lock(client, "tiny", lease_seconds=0.5):
        assert time.monotonic() - began > 0.5
    assert client.search_registered_models() == []


def test_a_displaced_holder_of_the_lock_gets_an_error(client: mlflow.MlflowClient) -> None:
    with (
        pytest.raises(Unavailable, match="tiny: writing to the registry took over 60 s"),
        registry_lock(client, "tiny"),
        registry_lock(client, "tiny", lease_seconds=0.1),
    ):
        pass


def test_an_alias_moved_by_hand_during_a_promotion_is_a_refusal(
    client: mlflow.MlflowClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = (make_version(client, tmp_path, i, domain_wrong=40 - 10 * i) for i in range(2))
    switch = mlflow.MlflowClient.set_registered_model_alias

    def interfere(self: Any, name: str, alias: str, number: str) -> None:
        switch(self, name, alias, first.version if alias == "champion" else number)

    monkeypatch.setattr(mlflow.MlflowClient, "set_registered_model_alias", interfere)
    refusal = promote(client, second).refusal
    assert refusal == "someone else made version 1 champion at the same time"


def test_versions_are_named_by_number_or_alias(client: mlflow.MlflowClient, tmp_path: Path) -> None:
    promote(client, make_version(client, tmp_path, 1))
    assert (
        named_version(client, "tiny/1").version
        == named_version(client, "models:/tiny@champion").version
    )
    for wrong in ("tiny", "tiny/9", "tiny@nobody", "other/1", "tiny/'; drop", "tiny/1/2"):
        with pytest.raises(UserError, match=r"no such version; .* models: tiny \(champion\)"):
            named_version(client, wrong)
    assert json.loads(json.dumps(aliases(client))) == {"champion": 1}
