import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from model_makers import small_program

from pytest_quantguard.errors import SchemeError
from pytest_quantguard.models.artifact import save_model, serialize
from pytest_quantguard.models.files import read_model_file
from pytest_quantguard.quiet import import_coremltools, quiet
from pytest_quantguard.schemes.quantize import quantize_model
from pytest_quantguard.schemes.scheme import Scheme
from pytest_quantguard.schemes.supported import supported_schemes

ct = import_coremltools()
PAIRS = [pair for pair in supported_schemes("mlProgram") if pair[1] != "custom_lut"]
NEED_IOS18 = [(4, "linear"), (4, "linear_symmetric"), (3, "linear_lut"), (3, "kmeans_lut")]
SKIPPED = (
    ("conv_0_weight_0_to_fp16", 216, "2048 weights or fewer"),
    ("conv_0_bias_0_to_fp16", 8, "one-dimensional"),
    ("conv_1_bias_0_to_fp16", 32, "one-dimensional"),
    ("linear_0_bias_0_to_fp16", 6, "one-dimensional"),
)
BIG = 2304 + 3072
"""Weights of the second convolution and the linear operation."""


@pytest.fixture(scope="module")
def program():
    return small_program()


@pytest.fixture(scope="module")
def newer_program():
    return small_program(ct.target.iOS18)


def operations(mlmodel):
    function = mlmodel.get_spec().mlProgram.functions["main"]
    return list(function.block_specializations[function.opset].operations)


def large_weights(mlmodel):
    from coremltools.optimize.coreml import decompress_weights, get_weights_metadata

    with quiet():
        return [found.val for found in get_weights_metadata(decompress_weights(mlmodel), 2048).values()]


@pytest.mark.parametrize(("bits", "mode"), PAIRS)
def test_large_tensors_are_compressed_to_the_bits_of_the_scheme(newer_program, bits, mode):
    quantized = quantize_model(newer_program, Scheme(bits, mode), name="small.mlpackage")
    compression = quantized.compression
    assert (compression.weights, compression.compressed) == (5638, BIG)
    assert compression.skipped == SKIPPED
    tables = 0 if mode.startswith("linear") and mode != "linear_lut" else 2 * 16 * 2**bits / BIG
    assert bits + tables <= compression.bits_per_weight <= bits + tables + 0.2
    assert sum(operation.type.startswith("constexpr_") for operation in operations(quantized.mlmodel)) == 2


@pytest.mark.parametrize(("bits", "mode"), [pair for pair in PAIRS if pair not in NEED_IOS18])
def test_older_deployment_targets_have_the_other_pairs(program, bits, mode):
    compression = quantize_model(program, Scheme(bits, mode), name="small.mlpackage").compression
    assert (compression.compressed, compression.skipped) == (BIG, SKIPPED)


@pytest.mark.parametrize(("bits", "mode"), NEED_IOS18)
@pytest.mark.parametrize("target", ["iOS15", "iOS16", "iOS17"])
def test_a_scheme_that_an_older_target_cannot_express_names_the_target_it_needs(target, bits, mode):
    with pytest.raises(SchemeError) as refused:
        quantize_model(small_program(ct.target[target]), Scheme(bits, mode), name="small.mlpackage")
    assert str(refused.value) == (
        f"small.mlpackage was converted for {target}, and {bits}-bit {mode} needs iOS18: pass "
        "deployment_target='iOS18', or convert it with minimum_deployment_target=coremltools.target.iOS18."
    )


@pytest.mark.parametrize(("bits", "mode"), [pair for pair in PAIRS if pair[0] >= 4])
def test_decoded_weights_are_near_the_float_weights(newer_program, bits, mode):
    quantized = quantize_model(newer_program, Scheme(bits, mode), name="small.mlpackage").mlmodel
    for before, after in zip(large_weights(newer_program), large_weights(quantized), strict=True):
        assert before.shape == after.shape
        error = np.abs(before.astype(np.float64) - after)
        assert 0 < error.mean() <= 2 * np.abs(before).max() / (2**bits - 2) / 2


def test_neither_the_model_nor_its_package_changes(program, tmp_path):
    path = save_model(program, tmp_path / "small.mlpackage")

    def contents():
        return {part: (part.read_bytes(), part.stat().st_mtime_ns) for part in path.rglob("*") if part.is_file()}

    mlmodel = ct.models.MLModel(str(path), skip_model_load=True)
    before, spec = contents(), mlmodel.get_spec()  # opening a package rewrites its manifest
    for mode in ("linear", "kmeans_lut"):
        quantize_model(mlmodel, Scheme(8, mode), name="small.mlpackage")
    assert contents() == before
    assert mlmodel.get_spec() == spec
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("scheme", [Scheme(8, "linear"), Scheme(4, "kmeans_lut")])
def test_the_quantized_model_is_saved_and_read_back(program, tmp_path, scheme):
    quantized = quantize_model(program, scheme, name="small.mlpackage").mlmodel
    file = read_model_file(save_model(quantized, tmp_path / "q.mlpackage"))
    assert (file.size_bytes, file.digest) == serialize(quantized)
    assert file.size_bytes < serialize(program)[0]
    assert ct.models.MLModel(str(file.path), skip_model_load=True).get_spec() == quantized.get_spec()


def test_what_coremltools_saves_is_of_the_same_size(program, tmp_path):
    quantized = quantize_model(program, Scheme(8, "linear"), name="small.mlpackage").mlmodel
    quantized.save(str(tmp_path / "theirs.mlpackage"))
    assert read_model_file(tmp_path / "theirs.mlpackage").size_bytes == serialize(quantized)[0]


def test_description_and_metadata_stay_and_so_does_the_conversion_date(program):
    program.author = "Ann"
    key = "com.github.apple.coremltools.conversion_date"
    program.user_defined_metadata[key] = "2020-02-02"
    quantized = quantize_model(program, Scheme(8, "linear"), name="small.mlpackage").mlmodel
    assert quantized.get_spec().description == program.get_spec().description
    del program.user_defined_metadata[key]
    quantized = quantize_model(program, Scheme(8, "linear"), name="small.mlpackage").mlmodel
    assert key not in quantized.user_defined_metadata


def test_the_same_bytes_on_any_number_of_threads(program, tmp_path):
    save_model(program, tmp_path / "small.mlpackage")
    script = (
        "from pytest_quantguard.quiet import import_coremltools\n"
        "from pytest_quantguard.models.artifact import serialize\n"
        "from pytest_quantguard.schemes.quantize import quantize_model\n"
        "from pytest_quantguard.schemes.scheme import Scheme\n"
        "program = import_coremltools().models.MLModel('small.mlpackage', skip_model_load=True)\n"
        "for scheme in (Scheme(8, 'kmeans_lut'), Scheme(8, 'linear')):\n"
        "    print(serialize(quantize_model(program, scheme, name='m').mlmodel)[1])"
    )
    digests = {
        subprocess.run(
            [sys.executable, "-c", script],
            env=os.environ | {"OMP_NUM_THREADS": threads, "PYTHONHASHSEED": threads},
            cwd=tmp_path,
            capture_output=True,
            check=True,
        ).stdout
        for threads in ("1", "3")
    }
    assert len(digests) == 1


def test_only_one_temporary_package_is_left_per_quantized_model(program, tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    quantized = quantize_model(program, Scheme(8, "linear"), name="m").mlmodel
    assert [path for path in tmp_path.iterdir() if path.suffix] == [Path(quantized.package_path)]
    shutil.rmtree(quantized.package_path)


def test_a_quantized_program_is_refused_with_what_to_do(program):
    small = quantize_model(program, Scheme(8, "linear"), name="m").mlmodel
    with pytest.raises(SchemeError, match=r"2 already quantized.*quantize the float32 model it was made from"):
        quantize_model(small, Scheme(4, "kmeans_lut"), name="m")


def test_a_program_of_small_tensors_is_refused_with_the_reason():
    from coremltools.converters.mil.mil import Builder

    with quiet():

        @Builder.program(input_specs=[Builder.TensorSpec(shape=(1, 8))], opset_version=ct.target.iOS16)
        def program(x):
            return Builder.linear(x=x, weight=np.ones((4, 8), np.float32), bias=np.ones(4, np.float32))

        model = ct.convert(program, convert_to="mlprogram", skip_model_load=True)
    with pytest.raises(
        SchemeError, match=r"\(1 2048 weights or fewer, 1 one-dimensional\); there is nothing to gate"
    ):
        quantize_model(model, Scheme(8, "linear"), name="m")


def test_a_program_of_several_functions_is_refused(tmp_path):
    descriptor = ct.utils.MultiFunctionDescriptor()
    for seed, name in enumerate(("first", "second")):
        path = save_model(small_program(seed=seed), tmp_path / f"{name}.mlpackage")
        descriptor.add_function(str(path), "main", name)
    descriptor.default_function_name = "first"
    with quiet():
        ct.utils.save_multifunction(descriptor, str(tmp_path / "both.mlpackage"))
        both = ct.models.MLModel(str(tmp_path / "both.mlpackage"), skip_model_load=True)
    with pytest.raises(SchemeError, match=r"both\.mlpackage has several functions, which coremltools cannot"):
        quantize_model(both, Scheme(8, "linear"), name="both.mlpackage")


def test_a_program_with_state_is_quantized():
    from coremltools.converters.mil.mil import Builder, types

    with quiet():
        specs = [Builder.TensorSpec(shape=(1, 64)), Builder.StateTensorSpec((64,), dtype=types.fp16)]

        @Builder.program(input_specs=specs, opset_version=ct.target.iOS18)
        def program(x, state):
            held = Builder.cast(x=Builder.read_state(input=state), dtype="fp32")
            weight = np.random.default_rng(0).normal(size=(64, 64)).astype(np.float32)
            return Builder.linear(x=Builder.add(x=x, y=held), weight=weight)

        model = ct.convert(
            program, convert_to="mlprogram", minimum_deployment_target=ct.target.iOS18, skip_model_load=True
        )
    quantized = quantize_model(model, Scheme(4, "kmeans_lut"), name="m")
    assert quantized.compression.compressed == 4096
    assert quantized.mlmodel.get_spec().description.state == model.get_spec().description.state


def test_what_coremltools_raises_becomes_one_sentence_with_what_to_do(program, monkeypatch):
    def broken(*args, **kwargs):
        raise ValueError("no such pass")

    monkeypatch.setattr("coremltools.optimize.coreml.linear_quantize_weights", broken)
    with pytest.raises(SchemeError) as refused:
        quantize_model(program, Scheme(8, "linear"), name="small.mlpackage")
    assert str(refused.value) == (
        "small.mlpackage cannot be quantized with 8-bit linear (ValueError: no such pass); use another "
        "scheme, or convert the model again."
    )
