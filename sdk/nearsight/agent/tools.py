"""What a tool is, how its arguments are checked, and how a plain function becomes one."""

from __future__ import annotations

import inspect
import json
import typing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from nearsight.errors import AgentError, InputError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from nearsight.values import Hit
    from nearsight_npu import Decision

# The types a parameter may have, as they are written.
KINDS: dict[Any, str] = {str: "str", int: "int", float: "float", bool: "bool", list[str]: "list[str]"}
REQUIRED: Any = inspect.Parameter.empty


@dataclass(frozen=True, slots=True, kw_only=True)
class Parameter:
    """One argument of a tool: its name, its type as written, and its default (`REQUIRED` for none)."""

    name: str
    kind: str
    default: Any = REQUIRED


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What a tool gives back.

    Attributes:
        result: JSON-able values.
        found: how many things were found.
        items: the hits behind it.
        decision: the account of the model call; None where no model ran.
    """

    result: Any
    found: int = 0
    items: tuple[Hit, ...] = ()
    decision: Decision | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Tool:
    """Something an agent can do.

    Attributes:
        name: by which plans call it.
        summary: one line that says what it does.
        parameters: its arguments.
        call: does it; takes the arguments by name.
        own: whether it is one of Nearsight's own.
        has_effects: whether it may change something outside, so that it needs approval each time.
    """

    name: str
    summary: str
    parameters: tuple[Parameter, ...]
    call: Callable[..., Outcome]
    own: bool = False
    has_effects: bool = True


def checked(tool: Tool, arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Check arguments against a tool's parameters and fill in the defaults.

    Raises:
        InputError: for an argument that is unknown, missing or of another type.
    """
    known = {parameter.name for parameter in tool.parameters}
    strange = [name for name in arguments if name not in known]
    if strange:
        raise InputError(f"{tool.name} takes {', '.join(sorted(known)) or 'nothing'}; got {', '.join(strange)}")
    complete = {}
    for parameter in tool.parameters:
        value = arguments.get(parameter.name, parameter.default)
        if value is REQUIRED:
            raise InputError(f"{tool.name} needs {parameter.name} ({parameter.kind}); say it as {parameter.name}=...")
        if not _is(value, parameter.kind):
            raise InputError(f"{tool.name} takes {parameter.name} as {parameter.kind}; got {value!r}")
        complete[parameter.name] = value
    return complete


def _is(value: Any, kind: str) -> bool:
    if kind == "list[str]":
        return isinstance(value, list) and all(isinstance(item, str) for item in value)
    if kind == "float":
        return isinstance(value, (int, float)) and not isinstance(value, bool)
    # A bool is an int in Python, and none in a question.
    return type(value).__name__ == kind


def from_function(function: Callable[..., Any]) -> Tool:
    """Make a tool of a plain function with type hints and a docstring.

    Args:
        function: its name names the tool, the first line of its docstring says what it does, and its parameters are
            of the types str, int, float, bool or list[str].

    Raises:
        AgentError: if it lacks one of these.
    """
    name, summary = getattr(function, "__name__", repr(function)), summary_of(function)
    if not name.isidentifier() or not summary:
        raise AgentError(f"{name} was given as a tool; a tool is a named function with a docstring; add one")

    def call(**arguments: Any) -> Outcome:
        try:
            value = function(**arguments)
        except Exception as error:
            # Somebody else's function: it may raise anything, and the answer names it.
            raise AgentError(f"the tool {name} failed: {type(error).__name__}: {error}; see its own code") from error
        return Outcome(result={"value": _plain(value)}, found=int(bool(value)))

    return Tool(name=name, summary=summary, parameters=parameters_of(function), call=call)


def summary_of(function: Callable[..., Any]) -> str:
    """Give the first line of a function's docstring."""
    return (inspect.getdoc(function) or "").partition("\n")[0].strip()


def parameters_of(function: Callable[..., Any]) -> tuple[Parameter, ...]:
    """Read the parameters of a function from its signature.

    Raises:
        AgentError: for one without a name or of another type than `KINDS`.
    """
    hints = typing.get_type_hints(function)
    parameters = []
    for one in inspect.signature(function).parameters.values():
        kind = KINDS.get(hints.get(one.name))
        if kind is None or one.kind not in {one.POSITIONAL_OR_KEYWORD, one.KEYWORD_ONLY}:
            raise AgentError(
                f"the tool {function.__name__} has the parameter {one}; give each a name and one of the types "
                f"{', '.join(KINDS.values())}"
            )
        parameters.append(Parameter(name=one.name, kind=kind, default=one.default))
    return tuple(parameters)


def _plain(value: Any) -> Any:
    try:
        return json.loads(json.dumps(value))
    except (TypeError, ValueError):
        return str(value)
