"""Groups of options: a parameter of a command that stands for several options."""

from __future__ import annotations

import functools
import inspect
from dataclasses import is_dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["takes_groups"]


def takes_groups(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the options of each dataclass among its parameters, in that one's place.

    Typer knows options one by one only; the command gets them as the dataclasses it names.
    """
    signature = inspect.signature(command, eval_str=True)
    groups: dict[str, tuple[type[Any], list[str]]] = {}
    parameters: list[inspect.Parameter] = []
    for parameter in signature.parameters.values():
        expanded, kind = [parameter], parameter.annotation
        if isinstance(kind, type) and is_dataclass(kind):
            expanded = list(inspect.signature(kind, eval_str=True).parameters.values())
            groups[parameter.name] = kind, [one.name for one in expanded]
        parameters += [one.replace(kind=inspect.Parameter.KEYWORD_ONLY) for one in expanded]

    @functools.wraps(command)
    def expanded_command(**given: Any) -> None:
        chosen = {
            name: kind(**{option: given.pop(option) for option in options})
            for name, (kind, options) in groups.items()
        }
        command(**chosen, **given)

    # What typer reads; it looks at both.
    expanded_command.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
    expanded_command.__annotations__ = {one.name: one.annotation for one in parameters}
    return expanded_command
