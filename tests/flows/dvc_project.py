"""DVC in small projects of tests, without the second that each start of it takes."""

from pathlib import Path

import pytest

from tests.forked_python import forked_python

CONFIG = """[core]
    remote = store
    analytics = false
['remote "store"']
    url = {store}
"""


def initialise(folder: Path, store: Path) -> None:
    """Write what `dvc init` writes, and a default remote in the folder `store`."""
    (folder / ".dvc").mkdir()
    (folder / ".dvc/.gitignore").write_text("/config.local\n/tmp\n/cache\n")
    (folder / ".dvc/config").write_text(CONFIG.format(store=store))
    (folder / ".dvcignore").touch()


def fork_dvc(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let stages run a forked DVC, which ends with its command, not with the supervisor."""
    monkeypatch.setattr("flows.run_stage.DVC", (str(forked_python() / "python"), "-m", "dvc"))
