"""Schemes that other distributions offer as entry points."""

import pytest
from model_makers import small_network
from program_examples import contents, two_layers

from pytest_quantguard.errors import SchemeError
from pytest_quantguard.schemes.quantize import quantize_model
from pytest_quantguard.schemes.scheme import Scheme
from pytest_quantguard.schemes.third_party import scheme_names

FUNCTIONS = """
number = 3
calls = []

def tables(mlmodel, bits=4, **arguments):
    import coremltools.optimize.coreml as cto

    calls.append((bits, arguments))
    return cto.palettize_weights(mlmodel, cto.OptimizationConfig(cto.OpPalettizerConfig(nbits=bits)))

def nothing(mlmodel):
    return mlmodel

def forgetful(mlmodel):
    pass

def specification(mlmodel):
    return mlmodel.get_spec()

def in_place(mlmodel):
    mlmodel._spec.neuralNetworkClassifier.layers[0].name = "other"
    return mlmodel

def broken(mlmodel):
    raise KeyError("no such thing")
"""


@pytest.fixture
def install(tmp_path, monkeypatch):
    """Installs a distribution whose entry points are given by name."""
    (tmp_path / "strange_schemes.py").write_text(FUNCTIONS)
    monkeypatch.syspath_prepend(tmp_path)

    def install(distribution="strange-schemes", **schemes):
        folder = tmp_path / f"{distribution.replace('-', '_')}-1.0.dist-info"
        folder.mkdir()
        (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: 1.0\n")
        lines = [f"{name} = {value}" for name, value in schemes.items()]
        (folder / "entry_points.txt").write_text("\n".join(["[pytest_quantguard.schemes]", *lines]) + "\n")

    return install


def test_the_function_gets_bits_and_arguments(install):
    install(mine="strange_schemes:tables")
    import strange_schemes

    assert scheme_names() == ("mine",)
    scheme = Scheme(2, "mine", arguments={"depth": 3, "names": ["a"]})
    assert str(scheme) == "mine:2,depth=3,names=[%22a%22]"
    assert Scheme.parse(str(scheme)) == scheme
    result = quantize_model(two_layers(), scheme, name="m")
    assert strange_schemes.calls == [(2, {"depth": 3, "names": ("a",)})]
    assert 2 < result.compression.bits_per_weight < 2.1
    theirs = quantize_model(two_layers(), Scheme(2), name="m")
    assert contents(result.mlmodel, like=theirs.mlmodel) == contents(theirs.mlmodel)


def test_their_schemes_come_after_all_others(install):
    install(a_mine="strange_schemes:tables")
    schemes = [Scheme(4, "a_mine"), Scheme(8, "a_mine"), Scheme(mode="unique_lut"), Scheme(8)]
    assert list(map(str, sorted(schemes))) == ["kmeans_lut:8", "unique_lut", "a_mine:8", "a_mine:4"]


@pytest.mark.parametrize(
    ("target", "scheme", "message"),
    [
        ("strange_schemes:broken", "mine", "failed with KeyError: 'no such thing'."),
        ("strange_schemes:forgetful", "mine,depth=3", "failed with TypeError: forgetful() got an unexpected"),
        ("strange_schemes:forgetful", "mine", "returned None; it must return a coremltools MLModel."),
        ("strange_schemes:specification", "mine", "returned a value of type Model; it must return a coremltools"),
        ("strange_schemes:number", "mine", "is no function; the entry point must name one."),
        ("strange_schemes:missing", "mine", "cannot be imported: AttributeError: module"),
        ("nowhere:missing", "mine", "cannot be imported: ModuleNotFoundError: No module named 'nowhere'."),
    ],
)
def test_an_error_names_scheme_distribution_and_function(install, target, scheme, message):
    install(mine=target)
    with pytest.raises(SchemeError) as refused:
        quantize_model(two_layers(), Scheme.parse(scheme), name="m")
    assert str(refused.value).startswith(f"m: the scheme 'mine' of strange-schemes ({target}) {message}")


def test_a_scheme_that_changes_the_float_model_is_an_error(install):
    install(mine="strange_schemes:in_place")
    with pytest.raises(SchemeError, match=r"changed the model that it was given; it must return another one\."):
        quantize_model(small_network(), Scheme.parse("mine"), name="m")


def test_a_scheme_that_changes_nothing_is_an_error(install):
    install(mine="strange_schemes:nothing")
    with pytest.raises(SchemeError, match="mine changes nothing in m: its function returned no smaller weights"):
        quantize_model(small_network(), Scheme.parse("mine"), name="m")


def test_two_distributions_with_one_name_are_refused(install):
    install(mine="strange_schemes:tables")
    install("other-schemes", mine="strange_schemes:nothing")
    with pytest.raises(SchemeError, match="mode='mine' is offered by other-schemes and strange-schemes;"):
        Scheme(mode="mine")


def test_a_name_that_nobody_offers_is_refused_with_all_names(install):
    install(mine="strange_schemes:tables")
    with pytest.raises(SchemeError, match=r"mode='yours' does not exist; use one of linear, .*, float, mine\."):
        Scheme(mode="yours")


def test_bits_are_given_once(install):
    install(mine="strange_schemes:tables")
    assert Scheme(mode="mine", arguments={"bits": 2}).arguments == (("bits", 2),)
    with pytest.raises(SchemeError, match="mode='mine' has bits twice; leave them out of arguments="):
        Scheme(4, "mine", arguments={"bits": 2})


@pytest.mark.parametrize("name", ["two words", "a,b", "a:b"])
def test_a_name_that_text_cannot_hold_is_refused(install, name):
    install(**{name.replace(":", "-"): "strange_schemes:tables"})
    with pytest.raises(SchemeError, match="is no name of a scheme"):
        Scheme(mode=name)


@pytest.mark.parametrize("options", [{"group_size": 4}, {"skip_layers": ["a"]}])
def test_options_of_this_project_are_not_theirs(install, options):
    install(mine="strange_schemes:tables")
    with pytest.raises(SchemeError, match=r"mode='mine' takes arguments=, not"):
        Scheme(mode="mine", **options)
