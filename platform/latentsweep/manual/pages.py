"""The pages of the commands as Markdown: synopsis, examples, arguments, options with defaults, exit codes."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

from latentsweep.commands.app import JOBS, every_command
from latentsweep.commands.findings import FOUND
from latentsweep.execution.supervision import CRASHED, PATIENCE
from latentsweep.manual.examples import EXAMPLES
from latentsweep.program.interruption import STOPPED

PROGRAM = "python cli.py"
PLACEHOLDERS = {str: "TEXT", int: "N", float: "X", Path: "PATH", list[str]: "TEXT"}
"""What stands for a value, by its type."""
HEAD = """# Commands

One page for each command. From a checkout, type `python cli.py`; where the package is installed, `latentsweep` is the
same. `-h` behind a command prints its options.

Options of the program stand before the command: `--version` prints the version, `--debug` shows where an error came
from, and `--install-completion` makes your shell complete commands, options and names.

Commands that report take `--json`. Commands that compute take `--device`: `cpu` leaves the cards alone, `cuda` ends
with an error where no card can be used, and `auto`, the default, takes a card where there is one. Everything lies
under `--home`, by default `runs/`. These pages are written by `make docs`.

| command | what it does |
| --- | --- |
"""


def command_pages() -> dict[str, str]:
    """The index and a page for each command, by the names of their files."""
    found = every_command()
    rows = [f"| [`{name}`]({file_of(name)}) | {summary(found[name])} |" for name in EXAMPLES]
    index = HEAD + "\n".join(rows) + "\n"
    return {"README.md": index} | {file_of(name): page(name, found[name]) for name in EXAMPLES}


def file_of(name: str) -> str:
    """The file of a command's page."""
    return f"{name.replace(' ', '-')}.md"


def summary(command: Any) -> str:
    """What a command does, in its own words."""
    return escape(" ".join(inspect.cleandoc(command.help or "").split()))


def page(name: str, command: Any) -> str:
    """The page of the command ``name``."""
    arguments = [each for each in command.params if each.param_type_name == "argument"]
    options = [each for each in command.params if each.param_type_name == "option"]
    parts = [f"# {name}", summary(command), f"```\n{synopsis(name, arguments, options)}\n```"]
    parts += ["## Examples", f"```\n{examples(name)}\n```"]
    if arguments:
        rows = [f"| `{each.metavar or each.name.upper()}` | {meaning(each)} |" for each in arguments]
        parts += ["## Arguments", table("| argument | meaning |", rows)]
    rows = [f"| {words(each)} | {meaning(each)} | {default(each)} |" for each in options]
    parts += ["## Options", table("| option | meaning | default |", rows)]
    parts += ["## Exit codes", table("| code | when |", [f"| {code} | {when} |" for code, when in exits(name)])]
    parts.append("[All commands](README.md)")
    return "\n\n".join(parts) + "\n"


def synopsis(name: str, arguments: list[Any], options: list[Any]) -> str:
    """One line: what must be given, and what may be."""
    needed = [f"{each.opts[0]} {placeholder(each)}" for each in options if each.required]
    given = [each.metavar or each.name.upper() for each in arguments]
    given = [word if each.required else f"[{word}]" for word, each in zip(given, arguments, strict=True)]
    return " ".join([PROGRAM, name, *given, *needed, "[OPTIONS]"])


def examples(name: str) -> str:
    """The examples, their explanations in one column."""
    lines = [(f"{PROGRAM} {line}", what) for line, what in EXAMPLES[name]]
    width = max(len(line) for line, _ in lines)
    return "\n".join(f"{line:<{width}}  # {what}" for line, what in lines)


def table(head: str, rows: list[str]) -> str:
    """A table; every column is a text."""
    return "\n".join([head, "|" + " --- |" * (head.count("|") - 1), *rows])


def words(option: Any) -> str:
    """How an option is typed."""
    value = "" if option.is_flag else f" {placeholder(option)}"
    return ", ".join(f"`{word}{value}`" for word in [*option.opts, *option.secondary_opts])


def placeholder(option: Any) -> str:
    """What stands for the value of an option."""
    return PLACEHOLDERS[option.type_descriptor.annotation]


def meaning(parameter: Any) -> str:
    """The help of an option or argument, and what its value may be."""
    said = escape(parameter.help)
    low, high = parameter.min, parameter.max
    if low is not None:
        said += f" {low:g} to {high:g}." if high is not None else f" At least {low:g}."
    return said + (" Can be given several times." if parameter.multiple and "several times" not in said else "")


def default(option: Any) -> str:
    """What holds without the option; the variable that sets it, where there is one."""
    value = option.default
    if option.required:
        said = "must be given"
    elif option.is_flag:
        said = f"`{option.opts[0]}`" if value else "off"
    else:
        said = "–" if value in (None, "") else f"`{value}`"
    if option.envvar:
        said = f"{'none' if said == '–' else said}; or the variable `{option.envvar}`"
    return said


def exits(name: str) -> list[tuple[int, str]]:
    """The exit codes of a command, and what each means."""
    found = [(0, "done")]
    if name == "lint":
        found.append((FOUND, "done, and something misleads"))
    elif name in JOBS:
        found.append((1, f"the job's process was lost {PATIENCE} times in a row, each time within a minute"))
    found.append((2, "an option, a file or a setting must change; one line says which and how"))
    if name in JOBS:
        found.append((CRASHED, "an error of latentsweep itself; please report it with the lines printed"))
        found.append((STOPPED, "stopped, or not finished; the same command goes on"))
    else:
        found.append((STOPPED, "stopped by Ctrl-C"))
    return found


def escape(text: str) -> str:
    """``text`` as a cell of a table."""
    return text.replace("|", "\\|").replace("<", "&lt;").replace("*", "\\*")
