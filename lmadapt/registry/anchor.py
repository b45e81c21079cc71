"""The anchor of a registered model: the version against which drift over releases is judged.

Each release may lose a little within its margin. Against the champion before it, ten such losses
are ten small ones; against the anchor they are one large one.
"""

from typing import TYPE_CHECKING

from lmadapt.core.errors import UserError
from lmadapt.registry.connection import reaching_registry
from lmadapt.registry.versions import aliased_version

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities.model_registry import ModelVersion

TAG = "anchor"  # of the registered model: the number of the version
REASON_TAG = "anchor_because"


def anchor_of(client: "MlflowClient", name: str) -> "ModelVersion | None":
    """The anchor: the version that was chosen, or else the first champion; None without a champion.

    Raises UserError when the version was deleted.
    """
    from mlflow.exceptions import MlflowException

    number = client.get_registered_model(name).tags.get(TAG) or _first_champion(client, name)
    if not number:
        return None
    try:
        return client.get_model_version(name, number)
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
        raise UserError(
            f"{name}: version {number}, the anchor against which drift is judged, was deleted; "
            "`lmadapt exam anchor VERSION` chooses another"
        ) from None


@reaching_registry()
def set_anchor(client: "MlflowClient", version: "ModelVersion", reason: str) -> None:
    """Make the version the anchor of its model; the reason is recorded.

    Raises UserError unless the version is verified: it must still load to be asked.
    """
    from lmadapt.registry.lock import registry_lock

    if version.tags.get("status") != "verified":
        raise UserError(
            f"{version.name} version {version.version} is not verified; only a version that loaded "
            "back equal can be the anchor"
        )
    with registry_lock(client, version.name):
        client.set_registered_model_tag(version.name, REASON_TAG, reason)
        client.set_registered_model_tag(version.name, TAG, str(version.version))


def keep_anchor(client: "MlflowClient", name: str) -> None:
    """Write down the first champion as anchor, unless an anchor is written down already.

    Called under the registry's lock after each promotion.
    """
    if TAG not in client.get_registered_model(name).tags:
        client.set_registered_model_tag(name, TAG, _first_champion(client, name))


def _first_champion(client: "MlflowClient", name: str) -> str:
    """The version at the start of the chain of promotions to the champion; "" without champion."""
    champion = aliased_version(client, name, "champion")
    seen: list[str] = []
    over = str(champion.version) if champion else ""
    while over and over not in seen:  # a version that is promoted twice closes a ring
        seen.append(over)
        over = client.get_model_version(name, over).tags.get("promoted_over", "")
    return seen[-1] if seen else ""
