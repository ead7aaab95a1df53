"""Which operations of an ML program are quantized and how, and what coremltools declines."""

import numpy as np
import pytest
from program_examples import answers, assert_decoded_alike, by_coremltools, contents, two_layers, weights

from pytest_quantguard.errors import SchemeError
from pytest_quantguard.quiet import import_coremltools, quiet
from pytest_quantguard.schemes.program_tensors import all_operations
from pytest_quantguard.schemes.quantize import quantize_model
from pytest_quantguard.schemes.scheme import Scheme
from pytest_quantguard.schemes.tensor import SKIPPED

ct = import_coremltools()
import coremltools.optimize.coreml as cto  # noqa: E402
from coremltools.optimize.coreml import _quantization_passes as passes  # noqa: E402

CONV, DENSE = 32 * 8 * 9, 6 * 512


@pytest.fixture(scope="module")
def program():
    return two_layers()


def quantized(program, text, **arguments):
    return quantize_model(program, Scheme.parse(text), name="m", **arguments)


def same_bytes(quantized, program, *calls):
    return contents(quantized.mlmodel) == contents(by_coremltools(program, calls), like=program)


@pytest.mark.parametrize("option", ["skip_layers=conv*", "only_layers=type:linear", "skip_layers=type:conv"])
def test_operations_are_left_out_by_pattern_and_type(program, option):
    result = quantized(program, f"linear:8,{option}")
    config = cto.OptimizationConfig(cto.OpLinearQuantizerConfig(mode="linear"), op_type_configs={"conv": None})
    assert same_bytes(result, program, ("linear_quantize_weights", config))
    assert (result.compression.compressed, [row[1:] for row in result.compression.skipped][:1]) == (
        DENSE,
        [(CONV, SKIPPED)],
    )


def test_the_constant_itself_may_be_named(program):
    assert quantized(program, "linear:8,only_layers=conv_weight_0_to_fp16").compression.compressed == CONV


def test_an_override_of_the_same_kind_gives_what_coremltools_gives(program):
    result = quantized(program, "linear:8,overrides=type:conv=linear_symmetric:4")
    config = cto.OptimizationConfig(
        cto.OpLinearQuantizerConfig(mode="linear"),
        op_type_configs={"conv": cto.OpLinearQuantizerConfig(mode="linear_symmetric", dtype="int4")},
    )
    assert same_bytes(result, program, ("linear_quantize_weights", config))


def test_overrides_of_other_kinds_are_applied_one_kind_after_the_other(program):
    result = quantized(program, "kmeans_lut:4,overrides=type:linear=linear:8%2Csparsity%3D0.5")
    kinds = [operation.type for operation in all_operations(result.mlmodel.get_spec().mlProgram)]
    assert [kind for kind in kinds if kind.startswith("constexpr")] == [
        "constexpr_lut_to_dense",
        "constexpr_sparse_blockwise_shift_scale",
        "constexpr_sparse_to_dense",
    ]
    assert result.compression.compressed == CONV + DENSE
    assert_decoded_alike(result.mlmodel)
    only_linear = quantized(program, "linear:8,sparsity=0.5,only_layers=type:linear")
    np.testing.assert_array_equal(weights(result.mlmodel)[1], weights(only_linear.mlmodel)[1])


def test_the_first_override_that_matches_counts(program):
    result = quantized(program, "linear:8,overrides=dense*=linear:4+*=linear_symmetric:8")
    other = quantized(program, "linear_symmetric:8,overrides=type:linear=linear:4")
    assert contents(result.mlmodel) == contents(other.mlmodel)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "linear:8,skip_layers=conf",
            "skip_layers: 'conf' matches no operation of m; did you mean conv",
        ),
        ("linear:8,only_layers=type:matmul", "did you mean type:"),
        (
            "linear:8,overrides=dens=linear:4",
            "overrides: 'dens' matches no operation of m; did you mean de",
        ),
    ],
)
def test_a_pattern_that_matches_nothing_is_refused_with_the_closest_names(program, text, message):
    with pytest.raises(SchemeError) as refused:
        quantized(program, text)
    assert message in str(refused.value)


def test_another_threshold_is_told_as_the_reason(program):
    compression = quantized(program, "linear:8,weight_threshold=2500").compression
    assert compression.skipped[0][1:] == (CONV, "2500 weights or fewer")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("kmeans_lut:4,group_size=3", "the channels are no multiple of the group size"),
        ("kmeans_lut:4,cluster_dim=3", "the channels are no multiple of cluster_dim"),
        ("linear:8,per_block=16", "a dimension is no multiple of the block size"),
        ("sparse,n_m_ratio=2:8", "fewer channels than twice m"),
    ],
)
def test_a_declined_operation_is_reported_with_the_reason(program, text, reason):
    compression = quantized(program, text).compression
    assert compression.skipped[0][1:] == (CONV, f"declined by coremltools: {reason}")
    assert compression.notes == (f"{Scheme.parse(text).title}: coremltools declined conv_cast_fp16 ({reason}).",)


def test_tables_that_are_too_small_to_be_quantized_are_reported(program):
    assert quantized(program, "kmeans_lut:2,lut_dtype=int8").compression.notes == (
        "2-bit kmeans_lut (lut_dtype=int8): 2 lookup tables are not quantized; coremltools takes those of 10 "
        "values or more.",
    )
    assert quantized(program, "kmeans_lut:4,lut_dtype=int8").compression.notes == ()


def test_weights_that_got_no_table_are_not_quantized_in_its_place(program):
    result = quantized(program, "kmeans_lut:4,group_size=3,lut_dtype=int8")
    assert (result.compression.compressed, result.compression.skipped[0][0]) == (DENSE, "conv_weight_0_to_fp16")
    np.testing.assert_array_equal(weights(result.mlmodel)[0], weights(program)[0])
    with pytest.raises(SchemeError, match="changes nothing in m"):
        quantized(program, "kmeans_lut:4,group_size=5,lut_dtype=int8")


def test_a_declined_operation_is_named_as_the_model_names_it_after_pruning(program):
    (note,) = quantized(program, "kmeans_lut:4,group_size=3,sparsity=0.5,lut_dtype=int8").compression.notes
    assert "coremltools declined conv_cast_fp16 (the channels are no multiple of the group size)" in note


def test_scales_and_tables_that_outweigh_the_weights_are_reported(program):
    assert quantized(program, "kmeans_lut:4,per_channel_scale").compression.notes == (
        "4-bit kmeans_lut (per_channel_scale): quantized weights take 33.5 bits each, more than the 16.0 before.",
    )


def test_a_scheme_that_is_declined_everywhere_is_an_error_with_the_reason(program):
    with pytest.raises(
        SchemeError, match=r"unique_lut changes nothing in m.*more than 256 different values.*; change the scheme"
    ):
        quantized(program, "unique_lut")


def test_weights_of_few_values_get_a_table_of_just_these():
    program = two_layers("iOS18", "float16", values=5)
    result = quantized(program, "unique_lut")
    assert same_bytes(result, program, ("palettize_weights", cto.OpPalettizerConfig(mode="unique")))
    np.testing.assert_equal(answers(result.mlmodel), answers(program))
    assert 3 < result.compression.bits_per_weight < 3.2


def test_a_table_of_three_bits_needs_ios18_also_where_the_values_ask_for_it():
    with pytest.raises(SchemeError, match="was converted for iOS16, and this scheme needs iOS18"):
        quantized(two_layers("iOS16", "float16", values=5), "unique_lut")
    assert quantized(two_layers("iOS16", "float16", values=4), "unique_lut").compression.bits_per_weight < 2.2


@pytest.mark.parametrize("cluster_dim", [None, 2])
def test_a_lookup_table_of_ones_own(program, cluster_dim):
    width = cluster_dim or 1

    def lut_function(bits, values):
        columns = values.reshape(width, -1).T
        middles = np.quantile(columns, np.linspace(0, 1, 2**bits), axis=0)
        return middles, np.abs(columns[:, None] - middles).sum(axis=-1).argmin(axis=1)

    scheme = Scheme(3, "custom_lut", lut_function, cluster_dim=cluster_dim)
    result = quantize_model(program, scheme, name="m")
    assert result.compression.compressed == CONV + DENSE
    assert_decoded_alike(result.mlmodel)
    vectors = weights(result.mlmodel)[0].reshape(32 // width, width, -1)
    assert len(np.unique(np.swapaxes(vectors, 1, 2).reshape(-1, width), axis=0)) <= 8


@pytest.mark.parametrize("more", [{}, {"sparsity": 0.5}])
def test_an_override_has_clusters_of_its_own(program, more):
    optimal = Scheme(4, kmeans="optimal", **more)
    plain = Scheme(4, **more, overrides={"type:conv": optimal, "type:linear": optimal})
    assert contents(quantize_model(program, plain, name="m").mlmodel) == contents(
        quantize_model(program, optimal, name="m").mlmodel
    )


@pytest.mark.parametrize("text", ["sparse:0.5,requantize", "unique_lut,minimum_weight_count=3"])
def test_options_of_neural_networks_are_refused_in_modes_without_bits_too(program, text):
    with pytest.raises(SchemeError, match=r"m is an ML program, and .* is for neural networks; leave it out"):
        quantized(program, text)


@pytest.mark.parametrize("option", ["cluster_dim=2", "per_channel_scale"])
def test_what_coremltools_cannot_do_to_pruned_weights_is_said(program, option):
    name = option.partition("=")[0]
    with pytest.raises(SchemeError, match=f"m: coremltools cannot palettize with {name} what was pruned .*leave"):
        quantized(program, f"kmeans_lut:4,{option},sparsity=0.5")


def test_optimal_clusters_are_at_least_as_good(program):
    def error(text):
        after = weights(quantized(program, text).mlmodel)
        return [np.square(a.astype(float) - b).sum() for a, b in zip(after, weights(program), strict=True)]

    assert (np.array(error("kmeans_lut:4,kmeans=optimal")) <= error("kmeans_lut:4")).all()


class TestPerChannelScale:
    """coremltools pull request 2777."""

    TEXT = "kmeans_lut:4,overrides=type:linear=kmeans_lut:4%2Cgroup_size%3D5%2Cper_channel_scale"

    def test_coremltools_leaves_a_declined_operation_divided_by_its_scale(self, program):
        declining = cto.OpPalettizerConfig(
            nbits=4, granularity="per_grouped_channel", group_size=5, enable_per_channel_scale=True
        )
        config = cto.OptimizationConfig(cto.OpPalettizerConfig(nbits=4), {"linear": declining})
        theirs = by_coremltools(program, [("palettize_weights", config)])
        assert np.abs(weights(theirs)[1]).max() == 1  # in a coremltools that is right, the repair does nothing

    def test_here_it_keeps_its_values(self, program):
        result = quantized(program, self.TEXT)
        np.testing.assert_array_equal(weights(result.mlmodel)[1], weights(program)[1])
        assert "coremltools declined dense_cast_fp16" in result.compression.notes[0]


class TestKmeansWorkers:
    """With more than one, coremltools hangs for ever once scikit-learn has run in the process."""

    def test_one_worker_is_taken_and_a_note_says_so(self, program, monkeypatch):
        monkeypatch.setattr(passes, "Pool", None)  # what coremltools would start
        config = cto.OptimizationConfig(cto.OpPalettizerConfig(nbits=4, num_kmeans_workers=4))
        result = quantize_model(program, Scheme(config=config), name="m")
        assert result.compression.notes == (
            "num_kmeans_workers is taken for 1: with more, coremltools may hang for ever.",
        )
        assert contents(result.mlmodel) == contents(quantized(program, "kmeans_lut:4").mlmodel)
        assert config.global_config.num_kmeans_workers == 4

    def test_coremltools_starts_workers_by_fork(self):
        source = passes.__dict__["Pool"]
        assert source.__self__.get_start_method() == "fork"


class TestOptimizationConfig:
    def test_it_is_taken_as_it_is(self, program):
        config = cto.OptimizationConfig(
            cto.OpPalettizerConfig(mode="uniform", nbits=4), op_type_configs={"conv": None}
        )
        result = quantize_model(program, Scheme(config=config), name="m")
        assert same_bytes(result, program, ("palettize_weights", config))

    def test_several_compress_jointly(self, program):
        first = cto.OptimizationConfig(cto.OpMagnitudePrunerConfig(target_sparsity=0.5))
        second = cto.OptimizationConfig(cto.OpPalettizerConfig(nbits=4))
        result = quantize_model(program, Scheme(config=[first, second]), name="m")
        assert contents(result.mlmodel) == contents(quantized(program, "kmeans_lut:4,sparsity=0.5").mlmodel)

    def test_one_that_mixes_kinds_is_refused(self, program):
        config = cto.OptimizationConfig(cto.OpPalettizerConfig(nbits=4), {"conv": cto.OpLinearQuantizerConfig()})
        with pytest.raises(SchemeError, match="must hold operation configurations of one kind"):
            quantize_model(program, Scheme(config=config), name="m")

    @pytest.mark.parametrize(
        ("make", "arguments", "what"),
        [
            ("OpPalettizerConfig", {"nbits": 3}, "nbits=3"),
            ("OpPalettizerConfig", {"nbits": 4, "cluster_dim": 2}, "cluster_dim"),
            ("OpPalettizerConfig", {"nbits": 4, "enable_per_channel_scale": True}, "enable_per_channel_scale"),
            ("OpPalettizerConfig", {"nbits": 4, "granularity": "per_grouped_channel"}, "granularity=per_grouped"),
            ("OpLinearQuantizerConfig", {"granularity": "per_block"}, "granularity=per_block"),
            ("OpLinearQuantizerConfig", {"dtype": "uint4"}, "a 4-bit dtype"),
        ],
    )
    def test_a_target_that_is_too_old_is_named(self, make, arguments, what):
        config = cto.OptimizationConfig(getattr(cto, make)(**arguments))
        with pytest.raises(SchemeError) as refused:
            quantize_model(two_layers("iOS16"), Scheme(config=config), name="m")
        assert f"was converted for iOS16, and {what}" in str(refused.value)

    def test_it_can_be_raised(self):
        config = cto.OptimizationConfig(cto.OpPalettizerConfig(nbits=3))
        scheme = Scheme(config=config, deployment_target="iOS18")
        assert quantize_model(two_layers("iOS16"), scheme, name="m").mlmodel.get_spec().specificationVersion == 9


class TestDeploymentTarget:
    @pytest.mark.parametrize(
        ("text", "what"),
        [
            ("linear:4", "4-bit linear"),
            ("linear:8,per_block=8", "per_block"),
            ("kmeans_lut:4,group_size=2", "group_size"),
            ("kmeans_lut:4,cluster_dim=2", "cluster_dim"),
            ("kmeans_lut:4,per_channel_scale", "per_channel_scale"),
            ("kmeans_lut:4,lut_dtype=int8", "lut_dtype"),
            ("kmeans_lut:4,sparsity=0.5", "pruning with kmeans_lut"),
            ("kmeans_lut:4,overrides=conv*=linear:4", "4-bit linear"),
        ],
    )
    def test_what_an_older_one_cannot_express_is_refused_with_the_one_it_needs(self, text, what):
        with pytest.raises(SchemeError) as refused:
            quantized(two_layers("iOS17"), text)
        assert str(refused.value) == (
            f"m was converted for iOS17, and {what} needs iOS18: pass deployment_target='iOS18', or "
            "convert it with minimum_deployment_target=coremltools.target.iOS18."
        )

    @pytest.mark.parametrize("text", ["linear:4,per_block=8", "kmeans_lut:4,sparsity=0.5"])
    def test_it_raises_the_model_which_then_answers_as_one_converted_for_it(self, text):
        raised = quantized(two_layers("iOS16"), f"{text},deployment_target=iOS18").mlmodel
        assert raised.get_spec().specificationVersion == 9
        np.testing.assert_equal(answers(raised), answers(quantized(two_layers("iOS18"), text).mlmodel))

    def test_raising_alone_changes_no_answer(self):
        older = two_layers("iOS15")
        kept = quantized(older, "linear:8,deployment_target=iOS18,weight_threshold=2500,only_layers=type:linear")
        np.testing.assert_array_equal(weights(kept.mlmodel)[0], weights(older)[0])

    def test_a_model_that_is_as_new_stays(self, program):
        result = quantized(program, "linear:8,deployment_target=iOS16")
        assert contents(result.mlmodel) == contents(quantized(program, "linear:8").mlmodel)

    def test_one_that_this_coremltools_lacks_is_refused_with_those_it_has(self, program):
        with pytest.raises(SchemeError, match=r"deployment_target='iOS99' does not exist.*iOS17, iOS18"):
            quantized(program, "linear:8,deployment_target=iOS99")

    def test_coremltools_raises_a_model_for_ios15_by_itself_and_a_note_says_so(self):
        result = quantized(two_layers("iOS15"), "linear:8")
        assert result.mlmodel.get_spec().specificationVersion == 7
        assert result.compression.notes == ("coremltools raises m from iOS15 to iOS16.",)


def test_one_temporary_package_is_left_of_several_steps(tmp_path, monkeypatch):
    older = two_layers("iOS16")
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    text = "kmeans_lut:4,lut_dtype=int8,sparsity=0.5"
    result = quantized(older, f"{text},deployment_target=iOS18").mlmodel
    assert [str(path) for path in tmp_path.iterdir() if path.suffix] == [result.package_path]
    with quiet():
        assert ct.models.MLModel(result.package_path, skip_model_load=True).get_spec() == result.get_spec()
