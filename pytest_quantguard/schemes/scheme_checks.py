"""Which options of a scheme go together."""

from typing import TYPE_CHECKING

from pytest_quantguard.errors import SchemeError
from pytest_quantguard.schemes.scheme_options import OPTIONS, PRUNING

if TYPE_CHECKING:
    from pytest_quantguard.schemes.scheme import Scheme

# Of these, a scheme has one at most.
_ALTERNATIVES = (("per_tensor", "per_block"), PRUNING)
# An option, and those of which it needs one.
_NEEDS = {
    "channel_axis": ("group_size", "cluster_dim"),
    "minimum_sparsity": ("threshold",),
    "prune_block": ("sparsity",),
    "prune_dim": ("prune_block", "n_m_ratio"),
    "activation_mode": ("activations",),
}


def check_objects(scheme: "Scheme") -> None:
    """Refuse a function or configuration of another kind, or without its mode.

    Raises:
        SchemeError: the message names the argument.
    """
    function = scheme.lut_function
    if function is not None and not callable(function):
        raise SchemeError(f"lut_function={function!r} is no function; give one of (bits, weights).")
    if (function is None) == (scheme.mode == "custom_lut"):
        raise SchemeError("mode='custom_lut' and lut_function= belong together; give both or neither.")
    if (scheme.config is None) == (scheme.mode == "config"):
        raise SchemeError("mode='config' and config= belong together; give config= and leave mode out.")


def check_options(scheme: "Scheme") -> None:
    """Refuse options that do not go with the mode, or with each other.

    Raises:
        SchemeError: the message names both.
    """
    given = scheme.given
    for name in given:
        modes = OPTIONS[name].modes
        if modes and scheme.mode not in modes:
            wanted = " or ".join(map(repr, modes))
            raise SchemeError(f"{name}={getattr(scheme, name)!r} needs mode={wanted}, not {scheme.mode!r}.")
    for names in _ALTERNATIVES:
        found = [name for name in names if name in given]
        if len(found) > 1:
            raise SchemeError(f"{' and '.join(found)} exclude each other; give one of them.")
    for name, needed in _NEEDS.items():
        if name in given and not set(needed) & set(given):
            raise SchemeError(f"{name} needs {' or '.join(needed)}; give it as well, or leave {name} out.")
    if scheme.mode == "sparse" and not set(PRUNING) & set(given):
        raise SchemeError(f"mode='sparse' needs one of {', '.join(PRUNING)}.")
    if scheme.mode == "float" and not scheme.activations:
        raise SchemeError("mode='float' keeps the weights, so it needs activations='int8'.")
    if scheme.mode == "float" and set(PRUNING) & set(given):
        raise SchemeError("mode='float' keeps the weights; to prune them, use mode='sparse'.")
    if scheme.kmeans == "optimal" and (scheme.cluster_dim or 1) > 1:
        raise SchemeError("kmeans='optimal' clusters single weights; leave cluster_dim out.")
    if scheme.prune_dim not in (None, 0, 1):
        raise SchemeError(
            f"prune_dim={scheme.prune_dim!r} must be 0, the output channels, or 1, the input channels."
        )
    if scheme.config is not None and set(given) - {"deployment_target"}:
        wrong = ", ".join(name for name in given if name != "deployment_target")
        raise SchemeError(f"config= says everything itself; leave {wrong} out.")
