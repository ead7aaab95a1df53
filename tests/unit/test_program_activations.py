"""8-bit activations of ML programs, calibrated through an engine."""

import importlib.util
import itertools

import numpy as np
import pytest
from packaging.version import Version
from program_examples import answers, assert_decoded_alike, contents, two_layers

import pytest_quantguard
from pytest_quantguard.errors import SchemeError
from pytest_quantguard.quiet import import_coremltools, quiet
from pytest_quantguard.runtime.coremltools_predict import enable_predict
from pytest_quantguard.runtime.model import load_model
from pytest_quantguard.schemes.activations import concatenations, measured_ranges, share_ranges, with_all_outputs
from pytest_quantguard.schemes.program_tensors import all_operations
from pytest_quantguard.schemes.quantize import quantize_model
from pytest_quantguard.schemes.scheme import Scheme
from pytest_quantguard.schemes.tensor import SKIPPED

ct = import_coremltools()
import coremltools.optimize.coreml as cto  # noqa: E402

is_old = Version(ct.__version__) < Version("8.3")
needs_new = pytest.mark.skipif(is_old, reason="coremltools 8.0 quantizes activations of fewer operations, to int8")
needs_activations = pytest.mark.skipif(
    importlib.util.find_spec("coremltools.optimize._utils") is None,
    reason="this coremltools cannot quantize activations without Apple's framework",
)
linear_quantize_activations = getattr(
    cto, "linear_quantize_activations", cto.experimental.linear_quantize_activations
)


def samples(count, scale=1.0):
    rng = np.random.default_rng(5)
    return [{"x": (scale * rng.normal(size=(1, 8, 4, 4))).astype(np.float32)} for _ in range(count)]


def scales(mlmodel):
    """The scales of all `quantize` operations, in order."""
    operations = list(all_operations(mlmodel.get_spec().mlProgram))
    constants = {operation.outputs[0].name: operation for operation in operations if operation.type == "const"}
    found = []
    for operation in operations:
        if operation.type == "quantize":
            (binding,) = operation.inputs["scale"].arguments
            value = binding.value if binding.HasField("value") else constants[binding.name].attributes["val"]
            found.append(np.frombuffer(value.immediateValue.tensor.bytes.values, np.float16).item())
    return found


def by_coremltools(program, given, **arguments):
    config = cto.OptimizationConfig(cto.experimental.OpActivationLinearQuantizerConfig(**arguments))
    with quiet(), enable_predict():
        return linear_quantize_activations(program, config, given)


@needs_new
@pytest.mark.parametrize(
    ("text", "arguments"),
    [
        ("float,activations=int8", {"mode": "linear_symmetric", "dtype": "int8"}),
        ("float,activations=uint8", {"mode": "linear_symmetric", "dtype": "uint8"}),
        ("float,activations=int8,activation_mode=linear", {"mode": "linear", "dtype": "int8"}),
    ],
)
def test_the_bytes_are_those_of_coremltools_for_one_sample(text, arguments):
    program = two_layers()
    ours = pytest_quantguard.quantize(program, scheme=text, calibration=samples(1))
    theirs = by_coremltools(program, samples(1), **arguments)
    assert contents(ours.mlmodel) == contents(theirs, like=program)
    assert len(scales(ours.mlmodel)) == 3
    assert str(ours.scheme) == text
    assert {reason for _, _, reason in ours.compression.skipped} == {SKIPPED}


@needs_activations
def test_weights_are_quantized_after_the_activations():
    program = two_layers()
    ours = pytest_quantguard.quantize(
        program, scheme="linear_symmetric:8,activations=int8", calibration=samples(1)
    )
    theirs = by_coremltools(program, samples(1), mode="linear_symmetric", dtype="int8")
    config = cto.OptimizationConfig(cto.OpLinearQuantizerConfig(mode="linear_symmetric"))
    with quiet():
        theirs = cto.linear_quantize_weights(theirs, config)
    assert contents(ours.mlmodel) == contents(theirs, like=program)
    assert ours.compression.share > 0.99
    assert_decoded_alike(ours.mlmodel)
    before, after = answers(program), answers(ours.mlmodel)
    for name, values in before.items():
        assert 0 < np.abs(values - after[name]).max() < 0.1 * np.abs(values).max()


def test_coremltools_keeps_the_ranges_of_the_last_sample_only():
    program, given = two_layers(), [*samples(1, scale=9), *samples(1)]
    last = by_coremltools(program, samples(1), mode="linear_symmetric", dtype="int8")
    both = by_coremltools(program, given, mode="linear_symmetric", dtype="int8")
    assert scales(both) == scales(last)  # in a coremltools that is right, these differ


def test_coremltools_makes_infinite_scales_of_large_activations():
    theirs = by_coremltools(two_layers(), samples(1, scale=20_000), mode="linear_symmetric", dtype="int8")
    assert np.inf in scales(theirs)  # in a coremltools that is right, it is not


@needs_activations
def test_scales_of_large_activations_are_finite():
    program, given = two_layers(), samples(1, scale=20_000)
    ours = pytest_quantguard.quantize(program, scheme="float,activations=int8", calibration=given)
    before, after = (model.outputs(given[0]).arrays["dense"] for model in (load_model(program), ours))
    assert np.isfinite(scales(ours.mlmodel)).all()
    assert 0 < np.abs(before - after).max() < 0.1 * np.abs(before).max()


@needs_activations
def test_ranges_are_those_of_all_samples_in_any_order():
    program, given = two_layers(), [*samples(1, scale=9), *samples(1)]
    found = [
        scales(
            pytest_quantguard.quantize(program, scheme="float,activations=int8", calibration=list(order)).mlmodel
        )
        for order in (given, reversed(given), given[:1])
    ]
    assert found[0] == found[1] == found[2]


@needs_new
def test_operations_are_left_out_by_pattern():
    text = "float,skip_layers=conv*,activations=int8"
    ours = pytest_quantguard.quantize(two_layers(), scheme=text, calibration=samples(1))
    assert len(scales(ours.mlmodel)) == 2  # before and after the linear operation


@needs_activations
def test_a_target_that_is_too_old_is_named_and_can_be_raised():
    program = two_layers("iOS16")
    with pytest.raises(SchemeError, match=r"was converted for iOS16, and activations needs iOS17: pass"):
        pytest_quantguard.quantize(program, scheme="float,activations=int8", calibration=samples(1))
    text = "float,activations=int8,deployment_target=iOS17"
    raised = pytest_quantguard.quantize(program, scheme=text, calibration=samples(1))
    native = pytest_quantguard.quantize(
        two_layers("iOS17"), scheme="float,activations=int8", calibration=samples(1)
    )
    assert scales(raised.mlmodel) == scales(native.mlmodel)
    np.testing.assert_equal(answers(raised.mlmodel), answers(native.mlmodel))


def test_without_samples_it_is_refused():
    with pytest.raises(SchemeError, match=r"is calibrated on samples of m; name some with calibration="):
        quantize_model(two_layers(), Scheme.parse("float,activations=int8"), name="m")


@needs_activations
def test_a_program_without_such_operations_is_refused():
    from coremltools.converters.mil.mil import Builder as mb

    with quiet():

        @mb.program(input_specs=[mb.TensorSpec(shape=(1, 8, 4, 4))], opset_version=ct.target.iOS17)
        def program(x):
            return mb.relu(x=x)

        mlmodel = ct.convert(
            program, convert_to="mlprogram", minimum_deployment_target=ct.target.iOS17, skip_model_load=True
        )
    with pytest.raises(SchemeError, match=r"changes nothing in model: it has no convolution, pooling, linear"):
        pytest_quantguard.quantize(mlmodel, scheme="float,activations=int8", calibration=samples(1))


def test_every_tensor_becomes_an_output_of_the_probe():
    probe = with_all_outputs(two_layers())
    values = load_model(probe, engine="portable").outputs(samples(1)[0]).arrays
    assert {"x_to_fp16", "conv_cast_fp16", "reshape_0_cast_fp16", "dense_cast_fp16", "dense"} <= set(values)


def test_ranges_grow_with_the_samples():
    given = [{"x": np.array([1.0, 2.0])}, {"x": np.array([-3.0])}]
    assert measured_ranges(given) == {"x": {"rmin": -3, "rmax": 2}}


@pytest.mark.parametrize("order", list(itertools.permutations([{"a", "b", "c"}, {"d", "e"}, {"c", "e"}])))
def test_what_is_concatenated_shares_one_range_over_any_chain(order):
    ranges = {name: {"rmin": -float(index), "rmax": float(index)} for index, name in enumerate("abcdef")}
    share_ranges(ranges, [set(group) for group in order])
    assert [ranges[name]["rmax"] for name in "abcdef"] == [4, 4, 4, 4, 4, 5]


def test_inputs_and_output_of_a_concatenation_are_a_group():
    from coremltools.converters.mil.mil import Builder as mb

    with quiet():

        @mb.program(input_specs=[mb.TensorSpec(shape=(1, 8, 4, 4))], opset_version=ct.target.iOS17)
        def program(x):
            return mb.concat(values=(mb.relu(x=x, name="a"), mb.sigmoid(x=x, name="b")), axis=1, name="c")

        mlmodel = ct.convert(
            program, convert_to="mlprogram", minimum_deployment_target=ct.target.iOS17, skip_model_load=True
        )
    (group,) = concatenations(mlmodel.get_spec().mlProgram)
    assert group == {"a_cast_fp16", "b_cast_fp16", "c_cast_fp16"}
