"""Schemes of third parties: functions that other distributions offer as entry points.

An entry point of the group `pytest_quantguard.schemes` has the scheme's name and a function
`(mlmodel, **arguments) -> mlmodel`.
"""

import importlib.metadata
import re
from typing import TYPE_CHECKING, Any

from pytest_quantguard.errors import SchemeError

if TYPE_CHECKING:
    from pytest_quantguard.schemes.scheme import Scheme

GROUP = "pytest_quantguard.schemes"


def scheme_names() -> tuple[str, ...]:
    """The names of all third parties' schemes, sorted."""
    return tuple(sorted({point.name for point in importlib.metadata.entry_points(group=GROUP)}))


def find_scheme(name: str) -> importlib.metadata.EntryPoint | None:
    """The entry point of a name, None without one.

    Raises:
        SchemeError: two distributions use the name, or the text of a scheme could not hold it.
    """
    if re.search(r"[\s,:=]", name):
        raise SchemeError(f"mode={name!r} is no name of a scheme, which has no spaces, commas, ':' and '='.")
    points = importlib.metadata.entry_points(group=GROUP, name=name)
    found = {point.value: point for point in points}
    if len(found) > 1:
        owners = " and ".join(sorted(_owner(point) for point in found.values()))
        raise SchemeError(f"mode={name!r} is offered by {owners}; uninstall one of them.")
    return next(iter(found.values()), None)


def apply_scheme(mlmodel: Any, scheme: "Scheme", *, name: str) -> Any:
    """Call a third party's function.

    Args:
        mlmodel: a coremltools `MLModel`.
        scheme: its mode names the entry point; the function gets its arguments, and its bits if there are any.
        name: what to call the model in an error.

    Returns:
        The `MLModel` that the function returned.

    Raises:
        SchemeError: the function cannot be imported, fails, returns something else, or changed the given model,
            with which the result is to be compared.
    """
    point = find_scheme(scheme.mode)
    if point is None:
        raise SchemeError(f"mode={scheme.mode!r} does not exist any more; install what offers it.")
    where = f"the scheme {scheme.mode!r} of {_owner(point)} ({point.value})"
    try:
        function = point.load()
    except Exception as error:  # whatever a stranger's module raises when it is imported
        raise SchemeError(f"{name}: {where} cannot be imported: {type(error).__name__}: {error}.") from error
    if not callable(function):
        raise SchemeError(f"{name}: {where} is no function; the entry point must name one.")
    arguments = {**({} if scheme.bits is None else {"bits": scheme.bits}), **dict(scheme.arguments)}
    before = _bytes(mlmodel)
    try:
        result = function(mlmodel, **arguments)
    except Exception as error:  # whatever a stranger's function raises
        raise SchemeError(f"{name}: {where} failed with {type(error).__name__}: {error}.") from error
    if not callable(getattr(result, "get_spec", None)):
        what = "None" if result is None else f"a value of type {type(result).__name__}"
        raise SchemeError(f"{name}: {where} returned {what}; it must return a coremltools MLModel.")
    if _bytes(mlmodel) != before:
        raise SchemeError(f"{name}: {where} changed the model that it was given; it must return another one.")
    return result


def _bytes(mlmodel: Any) -> bytes:
    return bytes(mlmodel.get_spec().SerializeToString(deterministic=True))


def _owner(point: importlib.metadata.EntryPoint) -> str:
    return point.dist.name if point.dist is not None else "an unknown distribution"
