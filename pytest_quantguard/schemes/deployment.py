"""Deployment targets of ML programs: which one a scheme needs, and raising a model to it."""

from typing import Any

from pytest_quantguard.errors import SchemeError
from pytest_quantguard.schemes.given_config import GivenConfigs, operation_configs
from pytest_quantguard.schemes.scheme import Scheme
from pytest_quantguard.schemes.scheme_options import LINEAR, PRUNING, TABLES

# Specification version to the `minimum_deployment_target` that gives it.
TARGETS = {6: "iOS15", 7: "iOS16", 8: "iOS17", 9: "iOS18", 10: "iOS26"}
IOS16, IOS17, IOS18 = 7, 8, 9


def needed_target(scheme: Scheme) -> tuple[int, str]:
    """The specification version that a scheme needs, and what in it needs that version.

    Sources: the checks in `transform_op` of coremltools' passes, and the versions of the `constexpr_*` operations.
    """
    found = [(IOS17, "activations")] if scheme.activations else []
    if scheme.config is not None:
        found += [(IOS18, what) for what in _given_needs(scheme.config)]
    for part in scheme.parts:
        needs_ios18 = {
            f"{part.bits}-bit {part.mode}": (part.mode in LINEAR and part.bits == 4)
            or (part.mode in TABLES and part.bits == 3),
            "per_block": part.per_block is not None,
            "group_size": part.group_size is not None,
            "cluster_dim": part.cluster_dim is not None,
            "per_channel_scale": part.per_channel_scale,
            "lut_dtype": bool(part.lut_dtype),
            f"pruning with {part.mode}": part.mode != "sparse" and bool(set(PRUNING) & set(part.given)),
        }
        found += [(IOS18, what) for what, needs in needs_ios18.items() if needs]
    return max(found, key=lambda pair: pair[0], default=(IOS16, "quantizing"))


def _given_needs(given: GivenConfigs) -> list[str]:
    """What in given configurations needs iOS 18."""
    needs = ["joint compression"] if len(given.configs) > 1 else []
    for operation in (operation for config in given.configs for operation in operation_configs(config)):
        is_table = hasattr(operation, "lut_function")
        granularity = getattr(getattr(operation, "granularity", None), "name", "").lower()
        found = {
            f"granularity={granularity}": granularity in ("per_block", "per_grouped_channel"),
            "cluster_dim": getattr(operation, "cluster_dim", 1) > 1,
            "enable_per_channel_scale": getattr(operation, "enable_per_channel_scale", False),
            "nbits=3": is_table and operation.nbits == 3,
            "a 4-bit dtype": hasattr(operation, "dtype") and operation.dtype.get_bitwidth() == 4,
        }
        needs += [what for what, is_needed in found.items() if is_needed]
    return needs


def check_target(version: int, scheme: Scheme, *, name: str) -> None:
    """Refuse a model whose deployment target cannot express the scheme.

    A model for iOS 15 is raised to iOS 16 by coremltools itself.

    Args:
        version: the model's specification version.
        scheme: the scheme.
        name: what to call the model in the error.
    """
    needed, what = needed_target(scheme)
    if version < needed and needed > IOS16:
        raise SchemeError(too_old(version, needed, what, name=name))


def too_old(version: int, needed: int, what: str, *, name: str) -> str:
    """The message that a model has an older deployment target than something needs."""
    return (
        f"{name} was converted for {target_name(version)}, and {what} needs {target_name(needed)}: pass "
        f"deployment_target='{target_name(needed)}', or convert it with minimum_deployment_target="
        f"coremltools.target.{target_name(needed)}."
    )


def target_name(version: int) -> str:
    """The iOS version that first read a specification version."""
    return TARGETS.get(version, f"specification version {version}")


def raise_target(mlmodel: Any, target: str) -> Any:
    """Convert an ML program to the operations of a newer deployment target.

    coremltools does the same by itself where a pass needs it (`_apply_graph_pass(spec_version=...)`): it reads the
    program and writes it with the operations of the newer version. A model that is as new is returned as it is.

    Args:
        mlmodel: a coremltools `MLModel` of type ML program; it is not changed.
        target: a name of `coremltools.target`.

    Raises:
        SchemeError: this coremltools has no such target.
    """
    from coremltools import target as targets
    from coremltools.converters.mil.mil.passes.graph_pass import AbstractGraphPass
    from coremltools.models.utils import _apply_graph_pass

    class Nothing(AbstractGraphPass):  # type: ignore[misc]
        def apply(self, prog: Any) -> None:
            """Change nothing."""

    if target not in targets.__members__:
        names = ", ".join(name for name in targets.__members__ if name.startswith("iOS"))
        raise SchemeError(f"deployment_target={target!r} does not exist in this coremltools; use one of {names}.")
    version = int(targets[target])
    if version <= mlmodel.get_spec().specificationVersion:
        return mlmodel
    return _apply_graph_pass(mlmodel, Nothing(), spec_version=version)
