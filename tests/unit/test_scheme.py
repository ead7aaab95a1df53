import pytest

from pytest_quantguard.errors import SchemeError
from pytest_quantguard.schemes.scheme import BITS, MODES, Scheme
from pytest_quantguard.schemes.supported import check_supported, supported_schemes


def lut_function(bits, weights):
    raise NotImplementedError


def scheme_of(bits, mode):
    return Scheme(bits, mode, lut_function if mode == "custom_lut" else None)


@pytest.mark.parametrize("bits", [9, 15, 0, -1, 32, True, "8", None])
def test_bits_that_do_not_exist_are_refused_with_those_that_do(bits):
    with pytest.raises(SchemeError, match=r"bits=.* does not exist; use one of 16, 8, 7, 6, 5, 4, 3, 2, 1\."):
        Scheme(bits, "linear")


@pytest.mark.parametrize("mode", ["kmean", "", "LINEAR", None])
def test_modes_that_do_not_exist_are_refused_with_those_that_do(mode):
    with pytest.raises(
        SchemeError, match=r"does not exist; use one of linear, linear_symmetric, linear_lut, kmeans_"
    ):
        Scheme(8, mode)


def test_kmeans_is_an_alias():
    assert Scheme(8, "kmeans") == Scheme(8, "kmeans_lut")


def test_schemes_are_values():
    assert len({Scheme(8, "linear"), Scheme(8, "linear"), Scheme(4, "linear")}) == 2
    assert str(Scheme(6, "linear_lut")) == "linear_lut:6"
    assert Scheme(6, "linear_lut").id == "6-linear_lut"


@pytest.mark.parametrize(("mode", "function"), [("custom_lut", None), ("linear", lut_function)])
def test_a_lut_function_and_custom_lut_come_together(mode, function):
    with pytest.raises(SchemeError, match="belong together"):
        Scheme(8, mode, function)


def test_neural_networks_have_every_pair_except_symmetric_ones_below_8_bits():
    kinds = ("neuralNetwork", "neuralNetworkClassifier", "neuralNetworkRegressor", "pipelineClassifier")
    every = {(bits, mode) for bits in BITS for mode in MODES}
    missing = {(bits, "linear_symmetric") for bits in BITS if bits < 8}
    for kind in kinds:
        assert set(supported_schemes(kind)) == every - missing
        assert len(supported_schemes(kind)) == len(set(supported_schemes(kind)))


def test_ml_programs_have_two_linear_and_six_table_widths():
    pairs = supported_schemes("mlProgram")
    assert [bits for bits, mode in pairs if mode == "linear"] == [8, 4]
    assert [bits for bits, mode in pairs if mode == "kmeans_lut"] == [8, 6, 4, 3, 2, 1]
    assert {mode for _, mode in pairs} == set(MODES)


def test_other_kinds_have_none():
    assert supported_schemes("glmClassifier") == ()


@pytest.mark.parametrize("kind", ["neuralNetwork", "mlProgram"])
def test_a_pair_is_refused_if_and_only_if_it_is_not_listed(kind):
    for bits in BITS:
        for mode in MODES:
            if (bits, mode) in supported_schemes(kind):
                check_supported(scheme_of(bits, mode), kind, "m")
            else:
                with pytest.raises(SchemeError):
                    check_supported(scheme_of(bits, mode), kind, "m")


def test_the_refusal_lists_what_the_kind_has():
    with pytest.raises(SchemeError) as refused:
        check_supported(Scheme(5, "kmeans_lut"), "mlProgram", "food.mlpackage")
    assert str(refused.value) == (
        "food.mlpackage is an ML program, which has no 5-bit kmeans_lut; use one of: linear with 8 or 4 bits; "
        "linear_symmetric with 8 or 4 bits; linear_lut with 8, 6, 4, 3, 2 or 1 bits; kmeans_lut with 8, 6, 4, 3, "
        "2 or 1 bits; custom_lut with 8, 6, 4, 3, 2 or 1 bits."
    )


def test_16_bits_on_an_ml_program_are_refused_with_the_way_to_get_them():
    with pytest.raises(SchemeError, match=r"compute_precision=coremltools\.precision\.FLOAT16"):
        check_supported(Scheme(16, "linear"), "mlProgram", "m")


def test_a_kind_without_weights_is_refused_by_its_name():
    with pytest.raises(SchemeError, match=r"spam\.mlmodel is of type glmClassifier, which holds no weights"):
        check_supported(Scheme(8, "linear"), "glmClassifier", "spam.mlmodel")


EVERY_OPTION = Scheme(
    4,
    "kmeans_lut",
    kmeans="optimal",
    skip_layers=["type:batchnorm", "a,b+c=d%", "block/*"],
    only_layers="conv[12]",
    minimum_weight_count=2048,
    minimum_conv_kernel_channels=4,
    requantize=True,
)


@pytest.mark.parametrize("bits", BITS)
@pytest.mark.parametrize("mode", [mode for mode in MODES if mode != "custom_lut"])
def test_what_is_printed_is_parsed(bits, mode):
    assert Scheme.parse(str(Scheme(bits, mode))) == Scheme(bits, mode)


def test_options_are_printed_and_parsed():
    assert str(Scheme(8, "kmeans_lut", kmeans="optimal")) == "kmeans_lut:8,kmeans=optimal"
    assert Scheme(8, "kmeans_lut", kmeans="optimal").id == "8-kmeans_lut-kmeans=optimal"
    assert Scheme(8, "linear", requantize=True).title == "8-bit linear (requantize)"
    assert Scheme.parse(str(EVERY_OPTION)) == EVERY_OPTION
    assert hash(Scheme.parse(str(EVERY_OPTION))) == hash(EVERY_OPTION)
    assert Scheme.parse("kmeans:8, requantize").requantize


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("kmeans_lut", "write mode and bits"),
        ("linear:x", "write mode and bits"),
        ("linear:9", "bits=9 does not exist"),
        ("spam:8", "mode='spam' does not exist"),
        ("custom_lut:8", "needs a function"),
        ("linear:8,selector=Mine", "is no option of a scheme: .*valid are kmeans, skip_layers"),
        ("linear:8,minimum_weight_count=-1", "has no value that can be read"),
        ("linear:8,requantize,requantize", "gives an option twice"),
        ("linear:8,skip_layers=", "must be a list of layer names"),
    ],
)
def test_text_that_is_no_scheme_is_refused(text, message):
    with pytest.raises(SchemeError, match=message):
        Scheme.parse(text)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"kmeans": "best"}, "use one of coremltools, optimal"),
        ({"kmeans": "optimal"}, "needs mode='kmeans_lut'"),
        ({"minimum_weight_count": -1}, "give 0 or more"),
        ({"minimum_conv_kernel_channels": True}, "give 0 or more"),
        ({"selector": "conv1"}, "give a QuantizedLayerSelector"),
        ({"skip_layers": [1]}, "must be a list of layer names"),
        ({"requantize": "yes"}, "must be True or False"),
    ],
)
def test_options_that_make_no_sense_are_refused(options, message):
    with pytest.raises(SchemeError, match=message):
        Scheme(8, "linear", **options)


def test_schemes_are_sorted_by_mode_and_then_most_bits_first():
    schemes = [
        Scheme(4, "kmeans_lut"),
        Scheme(2, "linear"),
        EVERY_OPTION,
        Scheme(8, "linear"),
        Scheme(8, "linear_lut"),
    ]
    assert list(map(str, sorted(schemes)))[:4] == ["linear:8", "linear:2", "linear_lut:8", "kmeans_lut:4"]


def test_options_of_neural_networks_are_refused_for_ml_programs():
    with pytest.raises(SchemeError, match="an ML program, and requantize is for neural networks"):
        check_supported(Scheme(8, "linear", requantize=True), "mlProgram", "m")
