"""The command line, put together: which commands there are, and how an error looks."""

from __future__ import annotations

import codecs
import locale
import os
import sys
import traceback
from types import TracebackType
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from latentsweep import __version__
from latentsweep.commands import ablation, findings, models, plan, plugins, release, sweep
from latentsweep.commands.data import data_app
from latentsweep.commands.store import store_app
from latentsweep.execution import supervision
from latentsweep.program import interruption
from latentsweep.records.redaction import RedactingFormatter, redact, redact_lines
from trainables.loop import machine

EXIT_CODES = {
    "StoppedError": interruption.STOPPED,
    "UnfinishedError": interruption.STOPPED,
    "LostError": supervision.LOST,
}
"""The exit codes of errors, by the names of their classes; all other errors end with 2."""
ASKED_FOR = ("StoppedError",)
"""What is no error to the user, who has asked for it."""
UTF8 = "PYTHONUTF8"
"""The environment variable that sets Python's UTF-8 mode, for children too."""
JOBS = ("sweep", "ablate", "train")
"""Commands that run for long, with Ray in them."""
HELP = ("-h", "--help")


class OneLineErrors(TyperGroup):
    """Prints what a user can mend as one line and ends with exit code 2; ``--debug`` shows where it came from.

    What is typed at a terminal as a job is done by a child that this process watches:
    :mod:`latentsweep.execution.supervision`.
    """

    def main(self, args: Any = None, *rest: Any, **options: Any) -> Any:
        if args is None:
            speak_utf8()
        machine.tell_libraries()
        if args is None and is_job(sys.argv[1:]):
            if supervision.must_watch():
                sys.exit(supervision.supervise())
            supervision.run_as_driver(lambda: super(OneLineErrors, self).main(args, *rest, **options))
        return super().main(args, *rest, **options)

    def invoke(self, ctx: Any) -> Any:
        from trainables.errors import LatentsweepError

        try:
            interruption.raise_again()
            return super().invoke(ctx)
        except LatentsweepError as error:
            if ctx.params.get("debug"):
                raise
            kind = type(error).__name__
            typer.echo(f"{'' if kind in ASKED_FOR else 'error: '}{redact(error)}", err=True)
            raise typer.Exit(EXIT_CODES.get(kind, 2)) from None
        except KeyboardInterrupt:
            typer.echo(interruption.SAID, err=True)
            raise typer.Exit(interruption.STOPPED) from None


def speak_utf8() -> None:
    """Starts this process anew in Python's UTF-8 mode where the locale has another encoding.

    Files and lines hold signs that a locale such as ``C`` or one of ISO 8859 cannot write; in this mode all that this
    process and its children read and write is UTF-8.
    """
    if codecs.lookup(locale.getencoding()).name != "utf-8" and not (
        sys.flags.utf8_mode or os.environ.get(UTF8) == "1"
    ):
        os.execve(sys.executable, [sys.executable, "-X", "utf8", *sys.orig_argv[1:]], {**os.environ, UTF8: "1"})


def is_job(words: list[str]) -> bool:
    """Whether a command line starts a job, and not only its plan or its help."""
    command = next((word for word in words if not word.startswith("-")), None)
    return command in JOBS and not {"--dry-run", *HELP} & set(words)


def _show_redacted(kind: type[BaseException], error: BaseException, where: TracebackType | None) -> None:
    """A traceback quotes what failed, and that may be an address with its password."""
    typer.echo(redact_lines("".join(traceback.format_exception(kind, error, where))), err=True, nl=False)


app = typer.Typer(
    cls=OneLineErrors,
    no_args_is_help=True,
    context_settings={"help_option_names": HELP},
    pretty_exceptions_enable=False,
    help="Find out which choices make slice-by-slice latent diffusion work on your brain MRI, and train the best.",
)
app.add_typer(data_app, name="data")
app.add_typer(store_app, name="store")
for command in (
    sweep.sweep,
    plan.plan,
    ablation.ablate,
    findings.ui,
    findings.lint,
    findings.report,
    sweep.export,
    models.train,
    models.sample,
    models.evaluate,
    release.release,
    plugins.plugins,
):
    app.command()(command)


def every_command() -> dict[str, Any]:
    """The commands by what a user types, ``data prepare`` among them: click's commands, with options and help."""
    found: dict[str, Any] = {}

    def walk(command: Any, name: str) -> None:
        if children := getattr(command, "commands", None):
            for child, inner in children.items():
                walk(inner, f"{name} {child}".strip())
        else:
            found[name] = command

    walk(typer.main.get_command(app), "")
    return found


def _print_version(wanted: bool) -> None:
    """Prints the version and ends, before a command is looked for."""
    if wanted:
        typer.echo(f"latentsweep {__version__}")
        raise typer.Exit


@app.callback()
def main(
    debug: Annotated[bool, typer.Option("--debug", help="Show where an error came from.")] = False,
    version: Annotated[
        bool, typer.Option("--version", help="Print the version and end.", callback=_print_version, is_eager=True)
    ] = False,
) -> None:
    """Options of every command."""
    import logging
    import warnings

    # A driver that is too old is reported in one line, by trainables.loop.cards.
    warnings.filterwarnings("ignore", message="CUDA initialization")
    handler = logging.StreamHandler()
    handler.setFormatter(RedactingFormatter("%(levelname)s: %(message)s"))
    logging.basicConfig(level=logging.DEBUG if debug else logging.WARNING, handlers=[handler])
    for name in ("matplotlib", "PIL", "filelock", "asyncio", "urllib3", "alembic", "git", "botocore", "boto3"):
        logging.getLogger(name).setLevel(logging.WARNING)
    sys.excepthook = _show_redacted
