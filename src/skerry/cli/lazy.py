"""The top-level command. Its subcommands are imported when they are called: none pays for what another uses."""

from importlib import import_module
from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup

from skerry.cli.catalog import ENTRIES, MODULES, SECTIONS
from skerry.cli.failures import Failure
from skerry.cli.speech import complain, debugging


class RootGroup(TyperGroup):
    """Looks commands up in the catalogue, and turns a Failure into words and an exit code."""

    def list_commands(self, ctx: Any) -> list[str]:
        return list(ENTRIES)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        entry = ENTRIES.get(cmd_name)
        if entry is None:
            return None
        # The one place where a module is imported by name and on demand.
        app: typer.Typer = import_module(f"{MODULES}.{entry.module}").app
        group = typer.main.get_group(app)
        return group if entry.noun else group.commands[entry.name]

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        for title, entries in SECTIONS:
            with formatter.section(title):
                formatter.write_dl([(entry.name, entry.help) for entry in entries if not entry.hidden])

    def shell_complete(self, ctx: Any, incomplete: str) -> Any:
        """Completes from the catalogue, without importing the commands."""
        stand_ins = {name: TyperCommand(name, help=entry.help, hidden=entry.hidden) for name, entry in ENTRIES.items()}
        menu = TyperGroup(name=self.name, commands={**stand_ins}, params=self.params)
        return menu.shell_complete(typer.Context(menu, info_name=ctx.info_name), incomplete)

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except Failure as failure:
            if debugging():
                raise
            complain(failure)
            raise typer.Exit(int(failure.code)) from failure
