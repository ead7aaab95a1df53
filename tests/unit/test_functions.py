import numpy as np
import pytest
from model_makers import SIZE, small_network, small_program
from PIL import Image

from pytest_quantguard import load_model
from pytest_quantguard.errors import ModelFileError
from pytest_quantguard.quiet import import_coremltools, quiet

IMAGE = {"image": Image.fromarray(np.random.default_rng(1).integers(0, 256, (SIZE, SIZE, 3), np.uint8))}


@pytest.fixture(scope="module")
def package(tmp_path_factory):
    """A package with the functions `a` and `b`, of which `b` is the default, and the two models by themselves."""
    ct, folder = import_coremltools(), tmp_path_factory.mktemp("functions")
    with quiet():
        for seed, name in enumerate("ab"):
            small_program(ct.target.iOS18, seed=seed, labels=[f"{name}{i}" for i in range(6)]).save(
                str(folder / f"{name}.mlpackage")
            )
        functions = ct.utils.MultiFunctionDescriptor()
        for name in "ab":
            functions.add_function(str(folder / f"{name}.mlpackage"), "main", name)
        functions.default_function_name = "b"
        ct.utils.save_multifunction(functions, str(folder / "both.mlpackage"))
    return folder


@pytest.mark.parametrize("name", ["a", "b"])
def test_each_function_answers_like_the_model_it_was_made_of(package, name):
    alone = load_model(package / f"{name}.mlpackage", engine="portable")
    chosen = load_model(package / "both.mlpackage", engine="portable", function_name=name)
    assert chosen.labels == alone.labels
    assert chosen.predict(IMAGE) == alone.predict(IMAGE)


def test_without_a_name_the_default_function_runs(package):
    default = load_model(package / "both.mlpackage", engine="portable")
    assert default.labels[0] == "b0"
    assert default.predict(IMAGE) == load_model(package / "b.mlpackage", engine="portable").predict(IMAGE)


def test_an_unknown_function_is_named_with_those_there_are(package):
    with pytest.raises(ModelFileError, match=r"both\.mlpackage has no function 'c'; choose one of a, b with"):
        load_model(package / "both.mlpackage", function_name="c")


def test_a_model_without_functions_has_none_to_choose(package):
    with pytest.raises(ModelFileError, match=r"a\.mlpackage has no function 'a': it has no functions to choose"):
        load_model(package / "a.mlpackage", function_name="a")
    assert load_model(small_network(), function_name="main").labels
