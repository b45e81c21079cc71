"""No web page and no other account gets past the servers of `make servers`."""

from pathlib import Path

import httpx
import pytest

from tests.servers import servers, with_password

FOREIGN = "http://evil.example"
NEW_POOL = {"name": "hostile", "type": "process"}


@pytest.mark.timeout(300)
def test_a_foreign_page_or_account_gets_nothing_from_prefect_or_mlflow(tmp_path: Path) -> None:
    with servers(tmp_path / "servers") as (_, addresses):
        api, tracking = addresses["PREFECT_API_URL"], addresses["MLFLOW_TRACKING_URI"]
        assert httpx.post(f"{api}/work_pools/", json=NEW_POOL).status_code == 401
        plain = httpx.post(f"{api}/work_pools/", content=str(NEW_POOL), headers={"Origin": FOREIGN})
        assert plain.status_code == 401
        asks = {"Origin": FOREIGN, "Access-Control-Request-Method": "POST"}
        allowed = httpx.options(f"{api}/work_pools/", headers=asks)
        assert "access-control-allow-origin" not in allowed.headers
        entered = f"{with_password(addresses)}/work_pools/filter"
        assert httpx.post(entered, json={}).json() == []
        login = tmp_path / "servers/prefect-password"
        assert addresses["PREFECT_API_AUTH_STRING"] == f"lmadapt:{login.read_text()}"
        assert login.stat().st_mode & 0o077 == 0
        search = f"{tracking}/api/2.0/mlflow/registered-models/search"
        assert httpx.get(search).status_code == 200
        assert httpx.get(search, headers={"Host": "evil.example"}).status_code == 403
        create = f"{tracking}/api/2.0/mlflow/registered-models/create"
        made = httpx.post(create, json={"name": "hostile"}, headers={"Origin": FOREIGN})
        assert made.status_code == 403
