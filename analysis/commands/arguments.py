"""Arguments of a command line, plain ones without pydantic: typer asks it about each, and importing it takes a sixth of starting."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast, get_args

from typer.core import TyperCommand, TyperGroup


class _Plain:
    """What an argument's text means: told at once where it can only be one thing, else by typer, which has its own messages."""

    def coerce(self, value: Any, param: Any, ctx: Any) -> Any:
        kind, several = param.type_descriptor.annotation, param.multiple or param.nargs == -1
        if value is None:
            return () if several else None
        if several and get_args(kind) == (Path,):
            return list(map(Path, value))
        if kind is Path and not several:
            return Path(value)
        if type(value) is kind:
            return value
        from typer._coercion import build_runtime_param  # noqa: PLC0415 - what takes so long

        return build_runtime_param(param.type_descriptor).coerce(value, param=param, ctx=ctx)


class _Arguments:
    """What reads plain arguments by itself. Versions of typer that do not ask pydantic are left alone."""

    def get_params(self, ctx: Any) -> list[Any]:
        """The arguments and options, --help too."""
        parameters = cast("list[Any]", super().get_params(ctx))  # type: ignore[misc]  # typer's, of the classes below
        for parameter in parameters:
            if getattr(parameter, "_runtime_param", self) is None:
                parameter._runtime_param = _Plain()
        return parameters


class Command(_Arguments, TyperCommand):
    """A command of typer's whose examples stay in lines as they are written, to be copied (click: what follows a backspace)."""

    def __init__(self, *arguments: Any, help: str | None = None, **others: Any) -> None:  # noqa: A002 - its name there
        super().__init__(*arguments, help=help and help.replace("Examples:\n", "\b\nExamples:\n"), **others)


class Commands(_Arguments, TyperGroup):
    """A group of them."""
