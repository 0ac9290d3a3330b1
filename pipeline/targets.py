"""Nodes of a config that name code by their `_target_`: samplers, data sets and benchmarks.

`config.check` binds each to the signature of its target before any work starts; `parts` builds them. A config is data,
so it may name code of the room that its key belongs to, or of a package that `allow_targets` lists.
"""

import inspect
import re
from collections.abc import Mapping, Sequence
from typing import Any

from hydra.errors import InstantiationException
from hydra.utils import get_object, instantiate

from pipeline.bounds import AMOUNT, check_numbers
from pipeline.values import Collection, ParallelText, UserError

ROOMS = {  # key -> where its code is, and what that makes
    "sampler": ("pipeline.sampling", "a batch strategy", lambda made: hasattr(made, "trains")),
    "data": ("pipeline.data", "a function that returns a ParallelText", lambda made: made is ParallelText),
    "eval": ("pipeline.data", "a function that returns a Collection", lambda made: made is Collection),
}


def code_of(key: str, node: Any, allowed: Sequence[str]) -> Any:
    """Return the function or class that a node names by its `_target_`.

    Raises:
        UserError: it is code of a package that is not allowed, which is then not imported; or no code for this key.
    """
    name = node.get("_target_") if isinstance(node, Mapping) else None
    if not isinstance(name, str) or not all(part.isidentifier() for part in name.split(".")):
        raise UserError(f"{key}: it needs a _target_ that names code, as the options in conf/{key.split('.')[0]} do.")
    room, kind, is_kind = ROOMS[key.split(".")[0]]
    module, *_ = name.rpartition(".")
    ours = re.fullmatch(rf"{re.escape(room)}\.\w+", module) is not None
    if not ours and (package := name.split(".")[0]) not in allowed:
        remedy = f"if you trust {package}, add 'allow_targets=[{package}]' to the command line"
        raise UserError(f"{key}._target_={name} is not code of {room}: {remedy}.")
    try:
        code = get_object(name)
    except (ImportError, ValueError) as error:
        raise UserError(f"{key}._target_={name}: there is no such code ({error}).") from error
    made = code if inspect.isclass(code) else getattr(code, "__annotations__", {}).get("return")
    if code.__module__ != module or not is_kind(made):  # it may only pass through: pipeline.data.tables.os
        raise UserError(f"{key}._target_={name}: it must be {kind}, in the module that defines it.")
    return code


def check_target(key: str, node: Any, allowed: Sequence[str]) -> None:
    """Bind a node to its `_target_` without calling it.

    Raises:
        UserError: for foreign code, an unknown or missing key, or a value of the wrong type.
    """
    from pydantic import TypeAdapter, ValidationError  # pipeline.profile_model does without

    parameters = inspect.signature(code_of(key, node, allowed), eval_str=True).parameters
    values = {name: value for name, value in node.items() if name != "_target_"}
    for name in (name for name in values if name not in parameters):
        raise UserError(f"unknown key {key}.{name}: {key} takes {', '.join(parameters)}.")
    check_numbers(values, key, AMOUNT)
    for name, parameter in parameters.items():
        if name not in values:
            if parameter.default is parameter.empty:
                raise UserError(f"{key}.{name} is missing.")
            continue
        try:
            TypeAdapter(parameter.annotation).validate_python(values[name])
        except ValidationError as error:
            raise UserError(f"{key}.{name}={values[name]!r}: {error.errors()[0]['msg'].lower()}.") from error


def build(key: str, node: Mapping[str, Any]) -> Any:
    """Call a node's `_target_`; an impossible value (ValueError of the target) is a UserError that names its key."""
    try:
        return instantiate(node, _convert_="all", _recursive_=False)
    except InstantiationException as error:
        if isinstance(error.__cause__, UserError):
            raise error.__cause__ from None
        if isinstance(error.__cause__, ValueError):
            raise UserError(f"{key}.{error.__cause__}") from error
        raise
