"""``python -m airflow_ee_provider``: the command line, where ``airflow`` takes no commands from providers."""

from __future__ import annotations

import argparse
import sys
from contextlib import redirect_stdout
from typing import Any


def main(arguments: list[str] | None = None) -> None:
    """Run a command.

    :raises SystemExit: With a code other than 0, if the command has failed.
    """
    # Airflow 3 can log warnings to the standard output while it is imported; on Python 3.14, it always does.
    with redirect_stdout(sys.stderr):
        from airflow_ee_provider.cli.definition import get_earth_engine_cli_commands

    group: Any = get_earth_engine_cli_commands()[0]
    parser = argparse.ArgumentParser(prog="python -m airflow_ee_provider", description=group.help)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for command in group.subcommands:
        described = commands.add_parser(command.name, help=command.help, description=command.help)
        for arg in command.args:
            arg.add_to_parser(described)
        described.set_defaults(func=command.func)
    chosen = parser.parse_args(arguments)
    chosen.func(chosen)


if __name__ == "__main__":
    main()
