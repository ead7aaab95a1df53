"""A coremltools `OptimizationConfig` inside a scheme: copied, so that nothing changes it, and told by text."""

from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from pytest_quantguard.errors import SchemeError


@dataclass(frozen=True)
class GivenConfigs:
    """Configurations to be applied one after the other; equal if they say the same.

    Args:
        text: what they say, for instance `OpPalettizerConfig(mode=KMEANS,nbits=4)`.
        functions: the functions in them, of which the text holds the names only.
        configs: copies of the `OptimizationConfig` objects, with one k-means worker each.
        had_workers: whether any of them had more. coremltools starts them with fork, and hangs for ever if
            scikit-learn has run in the process; the clusters do not depend on them.
    """

    text: str
    functions: tuple[Any, ...]
    configs: tuple[Any, ...] = field(compare=False, repr=False)
    had_workers: bool = field(compare=False, repr=False)

    def __str__(self) -> str:
        return self.text


def given_configs(value: Any) -> GivenConfigs | None:
    """What was given as `config=`: one `OptimizationConfig`, or several.

    Raises:
        SchemeError: it is none.
    """
    if value is None or isinstance(value, GivenConfigs):
        return value
    configs = tuple(value) if isinstance(value, list | tuple) else (value,)
    if not configs or not all(hasattr(config, "op_name_configs") for config in configs):
        raise SchemeError(f"config={value!r} is no OptimizationConfig of coremltools.optimize.coreml; give one.")
    copies = tuple(_copy(config) for config in configs)
    had_workers = False
    for operation in (operation for config in copies for operation in operation_configs(config)):
        if getattr(operation, "num_kmeans_workers", 1) > 1:
            operation.num_kmeans_workers, had_workers = 1, True
    functions: list[Any] = []
    text = "+".join(_describe(config, functions) for config in copies)
    return GivenConfigs(text, tuple(functions), copies, had_workers)


def _copy(config: Any) -> Any:
    """A copy made anew: `copy.deepcopy` would lose what `OpLinearQuantizerConfig` computes when it is made."""
    import attr  # coremltools needs it

    def again(operation: Any) -> Any:
        return None if operation is None else attr.evolve(operation)

    return attr.evolve(
        config,
        global_config=again(config.global_config),
        op_type_configs={name: again(operation) for name, operation in config.op_type_configs.items()},
        op_name_configs={name: again(operation) for name, operation in config.op_name_configs.items()},
    )


def operation_configs(config: Any) -> list[Any]:
    """The configurations of operations that an `OptimizationConfig` holds."""
    found = [config.global_config, *config.op_type_configs.values(), *config.op_name_configs.values()]
    return [operation_config for operation_config in found if operation_config is not None]


def _describe(config: Any, functions: list[Any]) -> str:
    parts = [_operation(config.global_config, functions)] if config.global_config is not None else []
    for prefix, named in (("type:", config.op_type_configs), ("", config.op_name_configs)):
        parts += [f"{prefix}{name}={_operation(named[name], functions)}" for name in sorted(named)]
    return ";".join(parts)


def _operation(config: Any, functions: list[Any]) -> str:
    """A configuration of operations with what differs from its defaults."""
    if config is None:
        return "None"
    said = []
    for attribute in type(config).__attrs_attrs__:
        value = getattr(config, attribute.name)
        if _value(value) != _value(attribute.default):
            if callable(value) and not isinstance(value, type):
                functions.append(value)
            said.append(f"{attribute.name}={_value(value)}")
    return f"{type(config).__name__}({','.join(said)})"


def _value(value: Any) -> str:
    """A value as text; modes are written in lower case, as they are given, while coremltools raises them."""
    if isinstance(value, Enum):
        return value.name.lower()
    if hasattr(value, "get_bitwidth"):
        return f"{'u' if value.is_unsigned() else ''}int{value.get_bitwidth()}"
    if isinstance(value, list | tuple):
        return "x".join(map(str, value))
    if callable(value):  # one without a name is printed with its address, which is another one in each process
        return str(getattr(value, "__name__", type(value).__name__))
    return str(value).lower()
