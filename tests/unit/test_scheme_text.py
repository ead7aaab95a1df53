"""Schemes as text: what is printed is parsed, and what is parsed is printed."""

import copy
import dataclasses
import functools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_quantguard.errors import SchemeError
from pytest_quantguard.quiet import import_coremltools
from pytest_quantguard.schemes.scheme import BITS, MODES, Scheme, make_scheme
from pytest_quantguard.schemes.scheme_options import (
    LINEAR,
    OPTIONS,
    TABLES,
    check_arguments,
    read_argument,
    show_argument,
)

names = st.text(min_size=1, max_size=8)
patterns = st.lists(names, max_size=3).map(tuple)
shares = st.floats(0, 1)
# Values of each option; those that need another one are made below.
VALUES = {
    "kmeans": st.sampled_from(["coremltools", "optimal"]),
    "skip_layers": patterns,
    "only_layers": patterns,
    "minimum_weight_count": st.integers(0, 10**6),
    "minimum_conv_kernel_channels": st.integers(0, 99),
    "requantize": st.booleans(),
    "unsigned": st.booleans(),
    "group_size": st.integers(1, 99),
    "per_channel_scale": st.booleans(),
    "lut_dtype": st.sampled_from(["", "int8", "uint8", "int4", "uint4"]),
    "weight_threshold": st.integers(0, 10**6),
    "activations": st.sampled_from(["", "int8", "uint8"]),
    "deployment_target": st.sampled_from(["", "iOS17", "macOS10_15"]),
}
PRUNING = st.one_of(
    st.just({}),
    st.fixed_dictionaries({"sparsity": shares}, optional={"prune_block": st.integers(2, 9)}),
    st.fixed_dictionaries({"threshold": st.floats(0, 1e30)}, optional={"minimum_sparsity": shares}),
    st.tuples(st.integers(1, 4), st.integers(4, 9)).map(lambda ratio: {"n_m_ratio": ratio}),
)
BLOCKS = st.one_of(
    st.just({}),
    st.just({"per_tensor": True}),
    st.builds(dict, per_block=st.integers(1, 99)),
    st.builds(dict, per_block=st.lists(st.integers(0, 99), min_size=1, max_size=5).map(tuple)),
)


@st.composite
def schemes(draw, is_nested=False):
    mode = draw(st.sampled_from([*(mode for mode in MODES if mode != "custom_lut"), "unique_lut", "sparse"]))
    arguments = {"mode": mode, **({"bits": draw(st.sampled_from(BITS))} if mode in MODES else {})}
    for name, values in VALUES.items():
        modes = OPTIONS[name].modes
        is_whole = name in ("skip_layers", "only_layers", "activations", "deployment_target")
        if (not modes or mode in modes) and not (is_nested and is_whole) and draw(st.booleans()):
            arguments[name] = draw(values)
    if mode in TABLES and arguments.get("group_size") and draw(st.booleans()):
        arguments["channel_axis"] = draw(st.integers(0, 4))
    arguments |= draw(PRUNING.filter(bool) if mode == "sparse" else PRUNING)
    arguments |= draw(BLOCKS) if mode in LINEAR else {}
    if not is_nested and draw(st.booleans()):
        arguments["overrides"] = draw(st.lists(st.tuples(names, schemes(is_nested=True)), max_size=2))
    return Scheme(**arguments)


@given(schemes())
def test_what_is_printed_is_parsed(scheme):
    parsed = Scheme.parse(str(scheme))
    assert parsed == scheme
    assert hash(parsed) == hash(scheme)
    assert str(parsed) == str(scheme)
    assert not parsed < scheme
    assert str(scheme).isprintable()


@given(st.lists(schemes(), max_size=6))
def test_schemes_are_sorted_in_one_order(some):
    backwards = sorted(some[::-1])  # noqa: C415  the order it starts from must not matter
    assert list(map(str, sorted(some))) == list(map(str, backwards))


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
        lambda values: st.lists(values, max_size=3).map(tuple),
    )
)
def test_arguments_of_third_parties_are_printed_and_read(value):
    assert read_argument("" if value is True else show_argument(value)) == value
    assert "," not in show_argument(value)


@pytest.mark.parametrize(
    "text",
    [
        "kmeans_lut:6",
        "linear:4,per_block=32",
        "linear:4,unsigned,per_block=1x32x0x0",
        "linear:8,per_block=32x",
        "linear_symmetric:8,per_tensor",
        "kmeans_lut:4,group_size=16,per_channel_scale",
        "kmeans_lut:4,group_size=16,channel_axis=1",
        "kmeans_lut:4,cluster_dim=2,lut_dtype=int8",
        "kmeans_lut:4,kmeans=optimal",
        "unique_lut",
        "sparse:0.5",
        "sparse:0.5,prune_block=4,prune_dim=1",
        "sparse,threshold=0.001,minimum_sparsity=0.3",
        "sparse,n_m_ratio=2:4",
        "kmeans_lut:4,sparsity=0.5",
        "linear:8,n_m_ratio=1:2,prune_dim=0",
        "float,activations=int8,activation_mode=linear",
        "linear_symmetric:8,weight_threshold=0,activations=int8,deployment_target=iOS17",
        "kmeans_lut:4,skip_layers=conv_1+type:linear,overrides=dense*=linear:8+a=linear:4%2Cper_block%3D8",
    ],
)
def test_text_is_printed_as_it_was_written(text):
    assert str(Scheme.parse(text)) == text


@pytest.mark.parametrize(
    ("text", "id_", "title"),
    [
        ("linear:4,per_block=32", "4-linear-per_block=32", "4-bit linear (per_block=32)"),
        ("sparse:0.5", "0.5-sparse", "sparse:0.5"),
        ("unique_lut,weight_threshold=9", "unique_lut-weight_threshold=9", "unique_lut (weight_threshold=9)"),
    ],
)
def test_ids_and_titles(text, id_, title):
    assert (Scheme.parse(text).id, Scheme.parse(text).title) == (id_, title)


def test_defaults_that_are_given_are_not_printed():
    assert str(Scheme(8, "linear", weight_threshold=2048)) == "linear:8"
    assert Scheme(4, cluster_dim=1) == Scheme(4)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"mode": "unique_lut", "bits": 4}, "mode='unique_lut' has no bits; leave bits=4 out"),
        ({"mode": "sparse"}, "mode='sparse' needs one of sparsity, threshold, n_m_ratio"),
        ({"mode": "float"}, "needs activations='int8'"),
        ({"mode": "float", "activations": "int8", "sparsity": 0.5}, "to prune them, use mode='sparse'"),
        ({"mode": "config"}, "mode='config' and config= belong together"),
        (
            {"bits": 8, "unsigned": True},
            "unsigned=True needs mode='linear' or 'linear_symmetric', not 'kmeans_lut'",
        ),
        ({"bits": 8, "mode": "linear", "group_size": 4}, "group_size=4 needs mode='linear_lut' or"),
        ({"bits": 8, "mode": "linear_lut", "cluster_dim": 2}, "cluster_dim=2 needs mode='kmeans_lut' or"),
        ({"bits": 8, "kmeans": "optimal", "cluster_dim": 2}, "clusters single weights; leave cluster_dim out"),
        (
            {"bits": 8, "mode": "linear", "per_tensor": True, "per_block": 8},
            "per_tensor and per_block exclude each",
        ),
        ({"bits": 8, "sparsity": 0.5, "threshold": 0.1}, "sparsity and threshold exclude each other"),
        ({"bits": 8, "channel_axis": 1}, "channel_axis needs group_size or cluster_dim"),
        ({"bits": 8, "minimum_sparsity": 0.5}, "minimum_sparsity needs threshold"),
        ({"bits": 8, "prune_block": 4}, "prune_block needs sparsity"),
        ({"bits": 8, "sparsity": 0.5, "prune_dim": 1}, "prune_dim needs prune_block or n_m_ratio"),
        ({"bits": 8, "n_m_ratio": (2, 4), "prune_dim": 2}, "prune_dim=2 must be 0"),
        ({"bits": 8, "activation_mode": "linear"}, "activation_mode needs activations"),
        ({"bits": 8, "sparsity": 1.5}, "sparsity=1.5 must be a number from 0 to 1"),
        ({"bits": 8, "threshold": -1}, "threshold=-1 must be a number of 0 or more"),
        ({"bits": 8, "threshold": float("nan")}, "threshold=nan must be a number"),
        ({"bits": 8, "n_m_ratio": (4, 2)}, "n must be 1 or more, and at most m"),
        ({"bits": 8, "n_m_ratio": "2:4"}, "give two whole numbers (n, m)"),
        ({"bits": 8, "group_size": 0}, "group_size=0 is no number of channels; give 1 or more"),
        ({"bits": 8, "mode": "linear", "per_block": 0}, "per_block=0 is no block size; give 1 or more"),
        ({"bits": 8, "mode": "linear", "per_block": (1, -1)}, "give a number, or one per dimension"),
        ({"bits": 8, "lut_dtype": "int7"}, "lut_dtype='int7' does not exist; use one of int8, uint8, int4, uint4"),
        ({"bits": 8, "deployment_target": "18"}, "name one of coremltools.target"),
        ({"bits": 8, "overrides": {"a": "linear"}}, "write mode and bits"),
        ({"bits": 8, "overrides": {"a": 8}}, "overrides: 8 for 'a' is no scheme"),
        ({"bits": 8, "overrides": {"a": "linear:8,skip_layers=b"}}, "overrides: skip_layers for 'a' is for whole"),
        ({"bits": 8, "overrides": {"a": "float,activations=int8"}}, "is for whole models"),
        ({"bits": 8, "overrides": [1]}, "must be a dictionary of patterns and schemes"),
        ({"bits": 8, "config": 3}, "config=3 is no OptimizationConfig of coremltools.optimize.coreml"),
        (
            {"bits": 8, "arguments": {"a": 1}},
            "arguments= is for third parties' schemes, not for mode='kmeans_lut'",
        ),
    ],
)
def test_arguments_that_make_no_sense_are_refused(arguments, message):
    with pytest.raises(SchemeError) as refused:
        Scheme(**arguments)
    assert message in str(refused.value)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"bits": 8.0}, "bits=8.0 does not exist"),
        ({"bits": 8, "mode": ["linear"]}, r"mode=['linear'] does not exist"),
        ({"bits": 8, "skip_layers": 3}, "skip_layers=3 must be a list of layer names"),
        ({"bits": 8, "only_layers": {"b", "a"}}, "must be a list of layer names"),
        ({"bits": 8, "threshold": float("inf")}, "threshold=inf must be a number of 0 or more"),
        ({"bits": 8, "threshold": 10**400}, "must be a number of 0 or more"),
        ({"bits": 8, "mode": "custom_lut", "lut_function": "f"}, "lut_function='f' is no function"),
        ({"bits": 8, "arguments": 3}, "arguments=3 must be a dictionary of names and values"),
        ({"bits": 8, "arguments": "ab"}, "arguments='ab' must be a dictionary"),
        ({"bits": 8, "activation_mode": "x"}, "use one of linear_symmetric, linear."),
    ],
)
def test_values_of_a_wrong_kind_are_refused_by_name(arguments, message):
    with pytest.raises(SchemeError) as refused:
        Scheme(**arguments)
    assert message in str(refused.value)


def test_none_is_the_default_of_every_option():
    assert Scheme(8, **dict.fromkeys(OPTIONS)) == Scheme(8)


def test_zero_has_one_text():
    assert str(Scheme(8, sparsity=-0.0)) == str(Scheme(8, sparsity=0)) == "kmeans_lut:8,sparsity=0.0"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "linear:4,per_blok=32",
            "'per_blok' in 'linear:4,per_blok=32' is no option of a scheme: did you mean per_block?",
        ),
        (
            "linear:4,block_size=32",
            "is no option of a scheme: use per_block=, or prune_block= with sparsity=; valid",
        ),
        ("linear:4,per_block=", "per_block in 'linear:4,per_block=' has no value that can be read: ''."),
        ("kmeans_lut:4,group_size=4.0", "has no value that can be read: '4.0'."),
        ("kmeans_lut:4,overrides=conv", "has no value that can be read: 'conv'."),
        ("linear:" + "9" * 5000, "write mode and bits"),
        ("linear:\N{FULLWIDTH DIGIT EIGHT}", "write mode and bits"),
    ],
)
def test_text_that_is_no_scheme_is_told_apart(text, message):
    with pytest.raises(SchemeError) as refused:
        Scheme.parse(text)
    assert message in str(refused.value)


def test_an_argument_that_does_not_exist_is_refused_with_the_closest_one():
    with pytest.raises(
        SchemeError, match="'per_blok' is no argument of a scheme: did you mean per_block\\? valid are"
    ):
        make_scheme({"bits": 8, "per_blok": 32})
    with pytest.raises(SchemeError, match="'nbits' is no argument of a scheme: use bits; valid are"):
        make_scheme({"nbits": 8})


def test_arguments_of_third_parties_may_hold_braces():
    assert check_arguments("arguments", {"pattern": "a{2}"}) == (("pattern", "a{2}"),)


@pytest.mark.parametrize(
    "value", [{"a": object()}, {"a b": 1}, {3: 1}, {"a": {"b": 1}}, {"a": [[{}]]}, {"a": float("inf")}]
)
def test_arguments_of_third_parties_are_plain_values(value):
    with pytest.raises(SchemeError, match="arguments: "):
        check_arguments("arguments", value)


@pytest.mark.parametrize("text", ["config:x", "linear:8,config=x", "sparse:x", "sparse:0.5,sparsity=0.5", "float"])
def test_text_that_is_no_scheme_is_refused(text):
    with pytest.raises(SchemeError):
        Scheme.parse(text)


def test_a_scheme_may_be_given_whole():
    scheme = Scheme(4, "linear")
    assert make_scheme({"scheme": scheme}) is scheme
    assert make_scheme({"scheme": "linear:4"}) == scheme
    with pytest.raises(SchemeError, match=r"scheme='linear:4' says everything; leave bits out\."):
        make_scheme({"scheme": scheme, "bits": 4})
    with pytest.raises(SchemeError, match="scheme=4 is no scheme"):
        make_scheme({"scheme": 4})


class TestOptimizationConfig:
    @pytest.fixture
    def cto(self):
        import_coremltools()
        import coremltools.optimize.coreml

        return coremltools.optimize.coreml

    def test_it_is_told_by_what_differs_from_the_defaults(self, cto):
        config = cto.OptimizationConfig(
            cto.OpLinearQuantizerConfig(dtype="uint4", granularity="per_block", block_size=[1, 8]),
            {"conv": None},
            {"b": cto.OpLinearQuantizerConfig(), "a": None},
        )
        assert str(Scheme(config=config)) == (
            "config:OpLinearQuantizerConfig(dtype=uint4,granularity=per_block,block_size=1x8);"
            "type:conv=None;a=None;b=OpLinearQuantizerConfig()"
        )

    def test_schemes_with_it_are_values(self, cto):
        def scheme(bits):
            return Scheme(config=cto.OptimizationConfig(cto.OpPalettizerConfig(nbits=bits)))

        assert len({scheme(4), scheme(4), scheme(2)}) == 2
        assert scheme(4) == copy.deepcopy(scheme(4)) == dataclasses.replace(scheme(4))

    def test_functions_of_one_name_are_told_apart(self, cto):
        def scheme(function):
            return Scheme(config=cto.OptimizationConfig(cto.OpPalettizerConfig("custom", lut_function=function)))

        first, second = lambda weights: weights, lambda weights: weights
        assert scheme(first) == scheme(first) != scheme(second)

    def test_functions_without_a_name_are_told_without_their_address(self, cto):
        function = functools.partial(lambda weights, bits: weights, bits=4)
        scheme = Scheme(config=cto.OptimizationConfig(cto.OpPalettizerConfig("custom", lut_function=function)))
        assert str(scheme) == "config:OpPalettizerConfig(mode=custom,lut_function=partial)"

    def test_a_later_change_does_not_reach_the_scheme(self, cto):
        config = cto.OptimizationConfig(cto.OpPalettizerConfig(nbits=4))
        scheme = Scheme(config=config)
        config.global_config.nbits = 2
        assert scheme.config.configs[0].global_config.nbits == 4

    def test_it_stands_alone(self, cto):
        config = cto.OptimizationConfig(cto.OpPalettizerConfig(nbits=4))
        with pytest.raises(SchemeError, match=r"config= says everything itself; leave skip_layers out\."):
            Scheme(config=config, skip_layers=["a"])
        with pytest.raises(SchemeError, match=r"has no bits; leave bits=8 out"):
            Scheme(8, config=config)
