"""The command line, put together: which commands there are, and how an error looks."""

from __future__ import annotations

import sys
import traceback
from types import TracebackType
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from latentsweep import __version__
from latentsweep.commands import ablating, findings, models, searching
from latentsweep.commands.data import data_app
from latentsweep.commands.store import store_app
from latentsweep.redaction import RedactingFormatter, redact, redact_lines

INTERRUPTED = 130


class OneLineErrors(TyperGroup):
    """Prints what a user can mend as one line and ends with exit code 2; ``--debug`` shows where it came from."""

    def invoke(self, ctx: Any) -> Any:
        from trainables.errors import LatentsweepError, StoppedError

        try:
            return super().invoke(ctx)
        except LatentsweepError as error:
            if ctx.params.get("debug"):
                raise
            typer.echo(f"error: {redact(error)}", err=True)
            raise typer.Exit(INTERRUPTED if isinstance(error, StoppedError) else 2) from None


def _show_redacted(kind: type[BaseException], error: BaseException, where: TracebackType | None) -> None:
    """A traceback quotes what failed, and that may be an address with its password."""
    typer.echo(redact_lines("".join(traceback.format_exception(kind, error, where))), err=True, nl=False)


app = typer.Typer(
    cls=OneLineErrors,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Find out which choices make slice-by-slice latent diffusion work on your brain MRI, and train the best.",
)
app.add_typer(data_app, name="data")
app.add_typer(store_app, name="store")
for command in (
    searching.sweep,
    ablating.ablate,
    findings.ui,
    findings.lint,
    findings.report,
    searching.export,
    models.train,
    models.sample,
    models.evaluate,
):
    app.command()(command)


@app.callback()
def main(
    debug: Annotated[bool, typer.Option("--debug", help="Show where an error came from.")] = False,
    version: Annotated[bool, typer.Option("--version", help="Print the version and end.")] = False,
) -> None:
    """Options of every command."""
    import logging

    handler = logging.StreamHandler()
    handler.setFormatter(RedactingFormatter("%(levelname)s: %(message)s"))
    logging.basicConfig(level=logging.DEBUG if debug else logging.WARNING, handlers=[handler])
    for name in ("matplotlib", "PIL", "filelock", "asyncio", "urllib3", "alembic", "git", "botocore", "boto3"):
        logging.getLogger(name).setLevel(logging.WARNING)
    sys.excepthook = _show_redacted
    if version:
        typer.echo(f"latentsweep {__version__}")
        raise typer.Exit
