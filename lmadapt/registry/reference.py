"""Opens the model in use now: the base, a folder, or the version that an alias points to."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from lmadapt.core.errors import UserError
from lmadapt.evaluation.reference import Reference, local_reference
from lmadapt.evaluation.variants import ModelVariant, model_folders
from lmadapt.verdict.judged import Precision

REGISTERED = "models:/"


@contextmanager
def open_reference(
    name: str, precision: Precision, *, base: Path, tracking_uri: str
) -> Iterator[Reference]:
    """Yield the model `name`: base, models:/NAME@ALIAS, or a folder with a whole model.

    The base and a folder run in `precision`; a version runs as it was judged and is served. An
    alias is read once. Raises UserError when there is no such model, or when the version or its
    base is not what was registered; Unavailable when the registry does not answer.
    """
    if name.startswith(REGISTERED):
        with _open_version(name, tracking_uri) as reference:
            yield reference
    else:
        yield local_reference(name, precision, base)


@contextmanager
def open_model(
    name: str, precision: Precision, paths: dict[str, Path], *, tracking_uri: str
) -> Iterator[Reference]:
    """As `open_reference`, for a model that may also be pretrained, adapted or an adapter's folder.

    `paths`: the folders base, pretrained and adapter. An adapter runs over pretrained.
    """
    if name.startswith(REGISTERED):
        with _open_version(name, tracking_uri) as reference:
            yield reference
    else:
        folder, adapter = model_folders(name, paths)
        yield Reference(name, ModelVariant(folder, precision, adapter))


@contextmanager
def _open_version(name: str, tracking_uri: str) -> Iterator[Reference]:
    from lmadapt.registry.connection import connect
    from lmadapt.registry.restore import assembled, served_precision
    from lmadapt.registry.versions import downloaded, named_version

    version = named_version(connect(tracking_uri, Path.cwd()), name)
    if version.tags.get("status") != "verified":
        raise UserError(
            f"{name}: version {version.version} is not verified, so it is no reference; `lmadapt "
            "models` lists the versions"
        )
    with downloaded(version) as (shipped, config), assembled(shipped, config) as (_, base):
        precision = served_precision(config)
        variant = ModelVariant(base or shipped, precision, shipped if base else None)
        yield Reference(name, variant, int(version.version))
