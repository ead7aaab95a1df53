import os
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
from model_makers import small_network

from pytest_quantguard.errors import SchemeError
from pytest_quantguard.models.artifact import save_model, serialize
from pytest_quantguard.models.files import read_model_file
from pytest_quantguard.models.neural_network_weights import decode_weights
from pytest_quantguard.quiet import import_coremltools, quiet
from pytest_quantguard.schemes.neural_network import quantize_networks
from pytest_quantguard.schemes.quantize import quantize_model
from pytest_quantguard.schemes.scheme import Scheme
from pytest_quantguard.schemes.supported import supported_schemes

ct = import_coremltools()
DENSE = (6, 512)
PAIRS = [pair for pair in supported_schemes("neuralNetworkClassifier") if pair[1] != "custom_lut"]


@pytest.fixture(scope="module")
def network():
    return small_network()


def layer(mlmodel, name):
    layers = mlmodel.get_spec().neuralNetworkClassifier.layers
    return next(found for found in layers if found.name == name)


def dense(mlmodel):
    return decode_weights(layer(mlmodel, "dense").innerProduct.weights, DENSE)


def mlmodel_of(spec):
    with quiet():
        return ct.models.MLModel(spec, skip_model_load=True)


def small_spec(seed=0):
    return small_network(seed).get_spec()


def pipeline(kind, *models):
    spec = ct.proto.Model_pb2.Model(specificationVersion=1)
    spec.description.CopyFrom(models[-1][1].description)
    inner = spec.pipeline if kind == "pipeline" else getattr(spec, kind).pipeline
    for name, model in models:
        inner.names.append(name)
        inner.models.add().CopyFrom(model)
    return mlmodel_of(spec)


def scaler():
    spec = ct.proto.Model_pb2.Model(specificationVersion=1)
    spec.scaler.shiftValue.append(1)
    return spec


@pytest.mark.parametrize(("bits", "mode"), PAIRS)
def test_every_weight_is_compressed_to_the_bits_of_the_scheme(network, bits, mode):
    quantized = quantize_model(network, Scheme(bits, mode), name="small.mlmodel")

    assert quantized.compression.compressed == quantized.compression.weights == 5638
    assert quantized.compression.skipped == ()
    weights = layer(quantized.mlmodel, "dense").innerProduct.weights
    assert len(weights.float16Value or weights.rawValue) == 6 * 512 * bits / 8
    assert serialize(quantized.mlmodel)[0] < serialize(network)[0]


@pytest.mark.parametrize(("bits", "mode"), [pair for pair in PAIRS if pair[0] >= 4])
def test_decoded_weights_are_near_the_float_weights(network, bits, mode):
    quantized = quantize_model(network, Scheme(bits, mode), name="small.mlmodel")
    error = np.abs(dense(quantized.mlmodel) - dense(network))
    largest = 2 * np.abs(dense(network)).max()
    step = largest / (2 ** min(bits, 11) - 2)
    assert 0 < error.mean() <= step / 2
    if mode.startswith("linear"):
        assert error.max() <= step * 0.51


@pytest.mark.parametrize("bits", [8, 4, 1])
def test_a_k_means_table_holds_every_cluster(network, bits):
    quantized = quantize_model(network, Scheme(bits, "kmeans_lut"), name="small.mlmodel")
    table = layer(quantized.mlmodel, "dense").innerProduct.weights.quantization.lookupTableQuantization.floatValue
    assert len(set(table)) == 2**bits
    assert min(table) >= dense(network).min() - 1e-6
    assert max(table) <= dense(network).max() + 1e-6


def test_coremltools_alone_stores_no_k_means_table_or_the_same_number_of_values():
    """The reason for the repair: a TypeError or an empty table; or nothing to repair."""
    from coremltools.models.neural_network.quantization_utils import quantize_weights

    try:
        with quiet():
            theirs = quantize_weights(small_network(), 2, "kmeans_lut")
    except TypeError:
        return
    table = layer(theirs, "dense").innerProduct.weights.quantization.lookupTableQuantization.floatValue
    assert len(table) in (0, 4)


def test_neither_the_model_nor_its_file_changes(network, tmp_path):
    path = save_model(network, tmp_path / "small.mlmodel")
    before = path.read_bytes(), path.stat().st_mtime_ns
    mlmodel = ct.models.MLModel(str(path), skip_model_load=True)
    for mode in ("linear", "kmeans_lut"):
        quantize_model(mlmodel, Scheme(4, mode), name="small.mlmodel")
    assert (path.read_bytes(), path.stat().st_mtime_ns) == before
    assert mlmodel.get_spec().SerializeToString(deterministic=True) == before[0]
    assert list(tmp_path.iterdir()) == [path]


def test_the_quantized_model_is_saved_and_read_back(network, tmp_path):
    quantized = quantize_model(network, Scheme(8, "kmeans_lut"), name="small.mlmodel").mlmodel
    file = read_model_file(save_model(quantized, tmp_path / "q.mlmodel"))
    assert (file.size_bytes, file.digest) == serialize(quantized)
    assert ct.models.MLModel(str(file.path), skip_model_load=True).get_spec() == quantized.get_spec()


def test_description_and_metadata_stay(network):
    network.author = "Ann"
    quantized = quantize_model(network, Scheme(8, "linear"), name="small.mlmodel").mlmodel
    assert quantized.get_spec().description == network.get_spec().description


def test_the_same_bytes_on_any_number_of_threads():
    script = (
        "from model_makers import small_network\n"
        "from pytest_quantguard.models.artifact import serialize\n"
        "from pytest_quantguard.schemes.quantize import quantize_model\n"
        "from pytest_quantguard.schemes.scheme import Scheme\n"
        "print(serialize(quantize_model(small_network(), Scheme(8, 'kmeans_lut'), name='m').mlmodel)[1])"
    )
    digests = {
        subprocess.run(
            [sys.executable, "-c", script],
            env=os.environ | {"OMP_NUM_THREADS": threads, "PYTHONHASHSEED": threads},
            cwd=Path(__file__).parent,
            capture_output=True,
            check=True,
        ).stdout
        for threads in ("1", "3")
    }
    assert len(digests) == 1


def test_quantizing_in_threads_gives_what_quantizing_in_turn_gives(network):
    schemes = [Scheme(8, "kmeans_lut"), Scheme(8, "linear"), Scheme(4, "linear_lut"), Scheme(2, "kmeans_lut")]
    digests = {}

    def quantize(scheme):
        digests[scheme] = serialize(quantize_model(network, scheme, name="m").mlmodel)[1]

    threads = [threading.Thread(target=quantize, args=[scheme]) for scheme in schemes]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    for scheme in schemes:
        assert digests[scheme] == serialize(quantize_model(network, scheme, name="m").mlmodel)[1]


@pytest.mark.parametrize(("bits", "reason"), [(16, "6 already float16"), (8, "6 already quantized")])
def test_weights_that_are_small_already_are_refused_with_what_to_do(network, bits, reason):
    small = quantize_model(network, Scheme(bits, "linear"), name="m").mlmodel
    for again in (16, 8, 4):
        with pytest.raises(SchemeError) as refused:
            quantize_model(small, Scheme(again, "linear"), name="small.mlmodel")
        assert str(refused.value) == (
            f"{again}-bit linear changes nothing in small.mlmodel, because its weight tensors are left "
            f"as they are ({reason}); quantize the float32 model it was made from, or restore float weights "
            "with requantize=True."
        )


def test_of_a_mixed_network_only_the_float32_weights_are_quantized():
    from coremltools.models.utils import _wp_to_fp16wp

    spec = small_spec()
    _wp_to_fp16wp(spec.neuralNetworkClassifier.layers[0].convolution.weights)
    compression = quantize_model(mlmodel_of(spec), Scheme(8, "linear"), name="m").compression
    assert compression.skipped == (("conv1.weights", 216, "already float16"),)
    assert compression.compressed == compression.weights - 216


def test_a_network_without_weights_is_refused():
    spec = small_spec()
    del spec.neuralNetworkClassifier.layers[:]
    with pytest.raises(SchemeError, match=r"\(it has none\); there is nothing to gate"):
        quantize_model(mlmodel_of(spec), Scheme(8, "linear"), name="m")


def test_a_model_that_is_no_network_is_refused_by_its_type():
    with pytest.raises(SchemeError, match=r"scale\.mlmodel is of type scaler, which holds no weights"):
        quantize_model(mlmodel_of(scaler()), Scheme(8, "linear"), name="scale.mlmodel")


def test_weights_beyond_float16_are_refused_at_16_bits():
    spec = small_spec()
    spec.neuralNetworkClassifier.layers[0].convolution.weights.floatValue[0] = 1e6
    with pytest.raises(
        SchemeError, match=r"big\.mlmodel: conv1\.weights holds values beyond the range of float16"
    ):
        quantize_model(mlmodel_of(spec), Scheme(16, "linear"), name="big.mlmodel")


def test_an_updatable_network_is_refused():
    spec = small_spec()
    spec.isUpdatable = True
    with pytest.raises(SchemeError, match=r"small\.mlmodel is updatable"):
        quantize_model(mlmodel_of(spec), Scheme(8, "linear"), name="small.mlmodel")


@pytest.mark.parametrize("kind", ["pipeline", "pipelineClassifier", "pipelineRegressor"])
def test_the_networks_of_a_pipeline_are_quantized_and_the_rest_is_listed(kind):
    model = pipeline(kind, ("scale", scaler()), ("first", small_spec()), ("second", small_spec(1)))
    quantized = quantize_model(model, Scheme(8, "kmeans_lut"), name="pipe.mlmodel")
    assert quantized.compression.skipped == (("0:scale", 0, "part of a pipeline that is no network"),)
    assert quantized.compression.compressed == quantized.compression.weights == 2 * 5638
    assert quantized.mlmodel.get_spec().specificationVersion == 3


def test_a_pipeline_inside_a_pipeline_is_quantized():
    inner = pipeline("pipelineClassifier", ("network", small_spec())).get_spec()
    compression = quantize_model(pipeline("pipeline", ("inner", inner)), Scheme(8, "linear"), name="p").compression
    assert compression.compressed == 5638


def test_a_pipeline_without_a_network_is_refused():
    model = pipeline("pipeline", ("scale", scaler()))
    with pytest.raises(
        SchemeError, match=r"changes nothing in pipe\.mlmodel, .*1 part of a pipeline that is no net"
    ):
        quantize_model(model, Scheme(8, "linear"), name="pipe.mlmodel")


def test_the_message_names_the_model_inside_a_pipeline():
    spec = small_spec()
    spec.isUpdatable = True
    model = pipeline("pipeline", ("first", spec))
    with pytest.raises(SchemeError, match=r"pipe\.mlmodel, model 0 \(first\) of the pipeline is updatable"):
        quantize_model(model, Scheme(8, "linear"), name="pipe.mlmodel")


def test_quantizing_a_message_returns_another_message():
    spec = small_spec()
    before = spec.SerializeToString(deterministic=True)
    assert quantize_networks(spec, Scheme(8, "linear"), name="m") is not spec
    assert spec.SerializeToString(deterministic=True) == before


def test_a_model_of_several_kinds_of_layers_prints_nothing_in_any_mode():
    script = (
        "from model_makers import small_network, small_program\n"
        "from pytest_quantguard.quiet import import_coremltools\n"
        "from pytest_quantguard.schemes.quantize import quantize_model\n"
        "from pytest_quantguard.schemes.scheme import Scheme\n"
        "for mode in ('linear', 'linear_symmetric', 'linear_lut', 'kmeans_lut'):\n"
        "    quantize_model(small_network(), Scheme(8, mode), name='m')\n"
        "    quantize_model(small_program(), Scheme(8, mode), name='m')\n"
        "quantize_model(small_network(), Scheme(16, 'linear'), name='m')\n"
    )
    done = subprocess.run(
        [sys.executable, "-W", "default", "-c", script], cwd=Path(__file__).parent, capture_output=True, check=True
    )
    assert (done.stdout, done.stderr) == (b"", b"")
