"""The functions of an ML program; since iOS 18 a package may hold several."""

from typing import Any

from pytest_quantguard.errors import ModelFileError


def function_names(spec: Any) -> tuple[str, ...]:
    """The functions a user may choose from; empty for a model that is one function by itself."""
    return tuple(entry.name for entry in spec.description.functions)


def select_function(spec: Any, function_name: str | None, *, name: str) -> Any:
    """A `Model` message with one function and its inputs, outputs and states.

    Args:
        spec: the parsed `Model` message; it stays as it is.
        function_name: the function; None for the package's default one (`defaultFunctionName`).
        name: what to call the model in errors.

    Returns:
        `spec` itself where there is nothing to choose.

    Raises:
        ModelFileError: there is no such function; the message names those there are.
    """
    names = function_names(spec)
    if not names:
        if function_name not in (None, "main"):
            raise ModelFileError(f"{name} has no function {function_name!r}: it has no functions to choose from.")
        return spec
    chosen = function_name or spec.description.defaultFunctionName
    if chosen not in names or chosen not in spec.mlProgram.functions:
        raise ModelFileError(
            f"{name} has no function {chosen!r}; choose one of {', '.join(names)} with function_name=."
        )
    described = next(entry for entry in spec.description.functions if entry.name == chosen)
    return _with_function(spec, described)


def _with_function(spec: Any, described: Any) -> Any:
    selected = type(spec)(specificationVersion=spec.specificationVersion)
    selected.description.metadata.CopyFrom(spec.description.metadata)
    for field in ("input", "output", "state"):
        getattr(selected.description, field).MergeFrom(getattr(described, field))
    selected.description.predictedFeatureName = described.predictedFeatureName
    selected.description.predictedProbabilitiesName = described.predictedProbabilitiesName
    selected.mlProgram.version = spec.mlProgram.version
    selected.mlProgram.functions["main"].CopyFrom(spec.mlProgram.functions[described.name])
    return selected
