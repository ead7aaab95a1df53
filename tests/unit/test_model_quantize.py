"""`Model.quantize`: the model that is gated, and the very file that is written."""

import pytest
from model_makers import small_network, small_program

from pytest_quantguard import Model, Scheme, SchemeError, load_model, quantize
from pytest_quantguard.models.artifact import save_model, serialize
from pytest_quantguard.models.files import read_model_file
from pytest_quantguard.runtime.model import load_model as runtime_load_model
from pytest_quantguard.schemes.quantize import quantize_model

MAKERS = {"small.mlmodel": small_network, "small.mlpackage": small_program}


@pytest.fixture(params=MAKERS)
def path(request, tmp_path):
    return save_model(MAKERS[request.param](), tmp_path / request.param)


def test_text_and_scheme_and_arguments_give_the_same_model(path):
    model = load_model(path)
    digests = {
        model.quantize("kmeans_lut:4").digest,
        model.quantize(Scheme(4, "kmeans_lut")).digest,
        quantize(path, bits=4, mode="kmeans_lut").digest,
    }
    assert len(digests) == 1


def test_the_saved_file_is_the_one_that_size_and_digest_are_of(path, tmp_path):
    quantized = load_model(path).quantize("linear_lut:4")
    file = read_model_file(quantized.save(tmp_path / f"out{path.suffix}"))
    assert (file.size_bytes, file.digest) == (quantized.size_bytes, quantized.digest)


def test_the_short_description_names_the_scheme_and_other_metadata_stays(path, tmp_path):
    model = load_model(path)
    model.mlmodel.short_description = "Names food."
    model.mlmodel.author = "somebody"
    file = read_model_file(model.quantize("linear_lut:4").save(tmp_path / f"out{path.suffix}"))
    metadata = file.spec.description.metadata
    assert metadata.shortDescription == "Names food. Quantized with linear_lut:4."
    assert metadata.author == "somebody"
    assert dict(metadata.userDefined) == dict(model.mlmodel.user_defined_metadata)


def test_the_model_in_memory_is_what_quantizing_gives_without_the_description(path):
    model = load_model(path)
    expected = quantize_model(model.mlmodel, Scheme(4, "linear_lut"), name="m").mlmodel
    quantized = model.quantize("linear_lut:4")
    assert serialize(quantized.mlmodel) == serialize(expected)
    assert serialize(quantized.mlmodel)[0] < quantized.size_bytes


def test_a_quantized_model_is_not_quantized_again(path):
    quantized = load_model(path).quantize("linear_lut:4")
    with pytest.raises(SchemeError, match=r"quantized already \(linear_lut:4\); start from the float model"):
        quantized.quantize("linear_lut:4")


def test_a_text_that_is_no_scheme_is_refused(path):
    with pytest.raises(SchemeError, match="'kmeans_lut' is no scheme; write mode and bits"):
        load_model(path).quantize("kmeans_lut")


def test_load_model_returns_a_model_as_it_is_and_completes_one_of_the_runtime(path):
    model = load_model(path)
    assert load_model(model) is model
    quantized = model.quantize("linear_lut:4")
    assert load_model(quantized) is quantized
    completed = load_model(runtime_load_model(path))
    assert isinstance(completed, Model)
    assert completed.digest == model.digest
