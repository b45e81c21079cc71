"""The commands `lmadapt exam …`: the exam that models are judged by, kept in the registry."""

import typer
from rich.console import Console
from rich.table import Table

from lmadapt.cli.console import say
from lmadapt.cli.registry import PARAMS, Name, Reason, Version, connected, model_name
from lmadapt.core.dvc_graph import stage_paths
from lmadapt.core.errors import UserError
from lmadapt.core.sections import read_params

commands = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode="markdown",
    help="Fix the exam before training, choose the anchor, and see how often an exam was used.",
)


@commands.command()
def fix(name: Name = None, reason: Reason = "") -> None:
    """Fix the exam and the margins before training, in the registry.

    The exam is data/curated/items.parquet with evaluate.lm_eval_tasks; level and margins are those
    in section `evaluate` of params.yaml. From then on a version that was judged on another exam or
    under other margins becomes champion only by force. To fix others later needs --reason.

    Exit code: 0, 1 when others are fixed, 75 when the registry does not answer.

    Example: `dvc repro validate && lmadapt exam fix`
    """
    from lmadapt.core.tables import ITEM, read_table
    from lmadapt.evaluation.exam_identity import exam_sha256
    from lmadapt.evaluation.lm_eval_tasks import task_key
    from lmadapt.registry.exam_ledger import read_ledger
    from lmadapt.registry.fixed_exam import fix_exam
    from lmadapt.registry.margins import margins_in

    settings = dict(read_params(PARAMS).get("evaluate") or {})
    items = read_table(stage_paths("evaluate")["items"], ITEM).to_pylist()
    tasks = [task_key(task) for task in settings.get("lm_eval_tasks") or []]
    client, model = connected(), model_name(name)
    fixed = fix_exam(client, model, exam_sha256(items, tasks), margins_in(settings), reason)
    margins = ", ".join(f"{key} {value}" for key, value in fixed.margins.items())
    say(f"{model}: the exam {fixed.exam_sha256[:16]}… is fixed since {fixed.at}, with {margins}")
    ledger = read_ledger(client, fixed.exam_sha256)
    if ledger.models:
        say(ledger.in_words())


@commands.command()
def anchor(version: Version, reason: Reason = "") -> None:
    """Choose the version against which drift over releases is judged.

    Without a choice it is the first champion. A version becomes champion only if its general
    ability is non-inferior to the anchor's, too.

    Exit code: 0, 1 when there is no such version or no reason, 75 when the registry does not
    answer.

    Example: `lmadapt exam anchor lmadapt-demo@champion --reason "new base model"`
    """
    from lmadapt.registry.anchor import set_anchor
    from lmadapt.registry.versions import named_version

    if not reason:
        raise UserError("`lmadapt exam anchor` needs --reason: drift starts from zero again")
    client = connected()
    found = named_version(client, version)
    set_anchor(client, found, reason)
    say(f"{found.name}: version {found.version} is the anchor")


@commands.command()
def ledger() -> None:
    """Show how many models each exam of the registry has judged.

    Exit code: 0, 75 when the registry does not answer.

    Example: `lmadapt exam ledger`
    """
    from lmadapt.registry.exam_ledger import exams_in

    table = Table("exam", "models judged", "sealed part opened", "chance that one passes by luck")
    for found in exams_in(connected()):
        chance = f"at most {100 * found.error:.0f} %"
        table.add_row(found.exam_sha256[:16], str(found.models), str(found.opened), chance)
    Console().print(table)
