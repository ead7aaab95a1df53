"""Which pairs of bits and mode each kind of model has."""

from pytest_quantguard.errors import SchemeError
from pytest_quantguard.schemes.kinds import NETWORKS, PIPELINES, PROGRAM
from pytest_quantguard.schemes.scheme import BARE_MODES, BITS, MODES, Scheme
from pytest_quantguard.schemes.scheme_options import OPTIONS, text_of

# coremltools.models.neural_network.quantization_utils.quantize_weights; at 16 bits the mode has no effect.
_NETWORK_BITS: dict[str, tuple[int, ...]] = {
    mode: (16, 8) if mode == "linear_symmetric" else BITS for mode in MODES
}
# coremltools.optimize.coreml: OpLinearQuantizerConfig.dtype and OpPalettizerConfig.nbits.
_TABLE_BITS = (8, 6, 4, 3, 2, 1)
_PROGRAM_BITS: dict[str, tuple[int, ...]] = {
    "linear": (8, 4),
    "linear_symmetric": (8, 4),
    "linear_lut": _TABLE_BITS,
    "kmeans_lut": _TABLE_BITS,
    "custom_lut": _TABLE_BITS,
}


def supported_schemes(kind: str) -> tuple[tuple[int, str], ...]:
    """The (bits, mode) pairs that models of a kind can be quantized with, mode by mode, most bits first.

    Args:
        kind: the specification's name of the model type, as in `ModelDescription.kind`.

    Returns:
        Nothing for kinds without weights that coremltools quantizes, for instance `glmClassifier`.
    """
    return tuple((bits, mode) for mode, all_bits in _modes(kind).items() for bits in all_bits)


def check_supported(scheme: Scheme, kind: str, name: str) -> None:
    """Refuse a scheme that models of a kind do not have.

    Args:
        scheme: the scheme.
        kind: the specification's name of the model type.
        name: what to call the model in the error.

    Raises:
        SchemeError: the message lists the pairs that the kind has.
    """
    if not scheme.is_own:
        return  # a third party's function sees for itself
    modes = _modes(kind)
    if not modes:
        raise SchemeError(
            f"{name} is of type {kind}, which holds no weights that can be quantized; give a neural network "
            "(.mlmodel) or an ML program (.mlpackage)."
        )
    kind_name, other = (
        ("an ML program", "neural networks") if kind == PROGRAM else ("a neural network", "ML programs")
    )
    wrong = [
        text_of(option, getattr(scheme, option), OPTIONS[option].show)
        for option in scheme.given
        if ("program" if kind == PROGRAM else "network") not in OPTIONS[option].kinds
    ]
    if wrong and (scheme.mode in (*MODES, "float") or kind == PROGRAM):
        raise SchemeError(f"{name} is {kind_name}, and {', '.join(wrong)} is for {other}; leave it out.")
    if kind != PROGRAM and scheme.activations == "uint8":
        raise SchemeError(f"{name} is a neural network, whose activations are int8; give activations='int8'.")
    has_bare_mode = scheme.mode in BARE_MODES if kind == PROGRAM else scheme.mode == "float"
    if has_bare_mode or scheme.bits in modes.get(scheme.mode, ()):
        _check_overrides(scheme, kind, name)
        return
    pairs = "; ".join(f"{mode} with {_list(bits)} bits" for mode, bits in modes.items())
    hint = ""
    if kind == PROGRAM and scheme.bits == 16:
        hint = " Float16 weights come from compute_precision=coremltools.precision.FLOAT16 when it is converted."
    raise SchemeError(f"{name} is {kind_name}, which has no {scheme.title}; use one of: {pairs}.{hint}")


def _check_overrides(scheme: Scheme, kind: str, name: str) -> None:
    for _, override in scheme.overrides:
        check_supported(override, kind, name)


def _modes(kind: str) -> dict[str, tuple[int, ...]]:
    if kind == PROGRAM:
        return _PROGRAM_BITS
    return _NETWORK_BITS if kind in (*NETWORKS, *PIPELINES) else {}


def _list(bits: tuple[int, ...]) -> str:
    if bits == BITS:
        return "16 or 8 to 1"
    return f"{', '.join(map(str, bits[:-1]))} or {bits[-1]}"
