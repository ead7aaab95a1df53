"""A scheme as the calls of `coremltools.optimize.coreml` that it stands for.

Zeros are set first, then weights are quantized or palettized, then the lookup tables are quantized: the order in
which coremltools' joint compression takes them.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from pytest_quantguard.errors import SchemeError
from pytest_quantguard.schemes.given_config import GivenConfigs, operation_configs
from pytest_quantguard.schemes.lookup_table import for_programs
from pytest_quantguard.schemes.program_selection import Selection
from pytest_quantguard.schemes.scheme import Scheme
from pytest_quantguard.schemes.scheme_options import LINEAR, PRUNING, TABLES

# What coremltools' passes append to the name of a constant that they replace.
_SUFFIXES = ("", "_sparsified", "_quantized", "_palettized", "_palettized_pcs")
_TABLE_MODES = {"kmeans_lut": "kmeans", "linear_lut": "uniform", "unique_lut": "unique", "custom_lut": "custom"}
_FUNCTIONS = {
    "OpMagnitudePrunerConfig": "prune_weights",
    "OpThresholdPrunerConfig": "prune_weights",
    "OpLinearQuantizerConfig": "linear_quantize_weights",
    "OpPalettizerConfig": "palettize_weights",
}


@dataclass(frozen=True)
class Step:
    """One call: `function(mlmodel, config, joint_compression=is_joint)`.

    Args:
        function: a name in `coremltools.optimize.coreml`.
        config: an `OptimizationConfig`.
        is_joint: whether what is compressed already is compressed further.
        is_for_tables: whether nothing but lookup tables is meant.
    """

    function: str
    config: Any
    is_joint: bool
    is_for_tables: bool = False


def steps_of(selection: Selection) -> list[Step]:
    """The calls that quantize a program's weights.

    Args:
        selection: the scheme, and which constants it is about. Without patterns in the scheme the configuration is
            global, as a call of coremltools would have it; else it names each constant.
    """
    if isinstance(selection.scheme.config, GivenConfigs):
        return _given_steps(selection.scheme.config)
    phases = (
        ("prune_weights", pruning_config),
        ("linear_quantize_weights", linear_config),
        ("palettize_weights", table_config),
        ("linear_quantize_weights", lut_config),
    )
    steps: list[Step] = []
    parts = selection.scheme.parts
    for function, make in phases:
        if any(make(part) is not None for part in parts):
            is_joint = make is lut_config or (make is not pruning_config and any(map(prunes, parts)))
            steps.append(Step(function, _config(selection, make), is_joint, is_for_tables=make is lut_config))
    return steps


def _config(selection: Selection, make: Callable[[Scheme], Any]) -> Any:
    from coremltools.optimize.coreml import OptimizationConfig

    if selection.is_all:
        return OptimizationConfig(global_config=make(selection.scheme))
    by_name: dict[str, Any] = {}
    for constant in selection.constants:
        scheme = selection.scheme_of(constant)
        config = None if scheme is None else make(scheme)
        by_name |= {constant.operation.name + suffix: config for suffix in _SUFFIXES}
    return OptimizationConfig(op_name_configs=by_name)


def pruning_config(scheme: Scheme) -> Any:
    """How to set weights to zero; None if not at all."""
    import coremltools.optimize.coreml as cto

    threshold = weight_threshold(scheme)
    if scheme.threshold is not None:
        least = 0.5 if scheme.minimum_sparsity is None else scheme.minimum_sparsity
        return cto.OpThresholdPrunerConfig(
            threshold=scheme.threshold, minimum_sparsity_percentile=least, weight_threshold=threshold
        )
    if not prunes(scheme):
        return None
    return cto.OpMagnitudePrunerConfig(
        target_sparsity=scheme.sparsity,
        n_m_ratio=scheme.n_m_ratio,
        block_size=scheme.prune_block,
        dim=scheme.prune_dim,
        weight_threshold=threshold,
    )


def linear_config(scheme: Scheme) -> Any:
    """How to quantize with a scale; None if the scheme does not."""
    import coremltools.optimize.coreml as cto

    if scheme.mode not in LINEAR:
        return None
    granularity = "per_tensor" if scheme.per_tensor else "per_channel" if scheme.per_block is None else "per_block"
    blocks = {} if scheme.per_block is None else {"block_size": scheme.per_block}
    return cto.OpLinearQuantizerConfig(
        mode=scheme.mode,
        dtype=f"{'u' if scheme.unsigned else ''}int{scheme.bits}",
        granularity=granularity,
        weight_threshold=weight_threshold(scheme),
        **blocks,
    )


def table_config(scheme: Scheme) -> Any:
    """How to make lookup tables; None if the scheme has none."""
    import coremltools.optimize.coreml as cto

    if scheme.mode not in TABLES:
        return None
    function, bits, cluster_dim = scheme.lut_function, scheme.bits, scheme.cluster_dim or 1
    groups = {} if scheme.group_size is None else {"group_size": scheme.group_size}
    return cto.OpPalettizerConfig(
        mode=_TABLE_MODES[scheme.mode],
        nbits=bits if scheme.mode in ("kmeans_lut", "linear_lut") else None,
        lut_function=for_programs(function, bits or 0, cluster_dim) if function else None,
        granularity="per_grouped_channel" if groups else "per_tensor",
        channel_axis=scheme.channel_axis,
        cluster_dim=cluster_dim,
        enable_per_channel_scale=scheme.per_channel_scale,
        num_kmeans_workers=1,
        weight_threshold=weight_threshold(scheme),
        **groups,
    )


def lut_config(scheme: Scheme) -> Any:
    """How to quantize lookup tables: with one scale each, as coremltools can no other; None if not at all."""
    import coremltools.optimize.coreml as cto

    if not scheme.lut_dtype:
        return None
    return cto.OpLinearQuantizerConfig(
        mode="linear_symmetric",
        dtype=scheme.lut_dtype,
        granularity="per_tensor",
        weight_threshold=weight_threshold(scheme),
    )


def weight_threshold(scheme: Scheme) -> int:
    """Only tensors with more weights are compressed."""
    return 2048 if scheme.weight_threshold is None else scheme.weight_threshold


def prunes(scheme: Scheme) -> bool:
    """Whether a scheme sets weights to zero first."""
    return bool(set(PRUNING) & set(scheme.given))


def _given_steps(given: GivenConfigs) -> list[Step]:
    steps = []
    for index, config in enumerate(given.configs):
        functions = {_FUNCTIONS.get(type(operation).__name__, "") for operation in operation_configs(config)}
        if len(functions) != 1 or "" in functions:
            raise SchemeError(
                f"config={given} must hold operation configurations of one kind: palettizers, linear quantizers "
                "or pruners; give several as config=[first, second] to apply them one after the other."
            )
        steps.append(Step(functions.pop(), config, is_joint=index > 0))
    return steps
