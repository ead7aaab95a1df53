import pytest

from pytest_quantguard.config import Settings
from pytest_quantguard.marker import MarkerOptions, keywords, marker_options, unique_ids
from pytest_quantguard.schemes.scheme import Scheme

MODULE, CLASS, FUNCTION = object(), object(), object()


def mark(**arguments):
    return pytest.mark.quantized(**arguments).mark


def schemes(*marks):
    return [option.scheme.id for option in marker_options(marks)]


def test_one_mark_gives_one_scheme():
    assert schemes((FUNCTION, mark(bits=8, mode="kmeans_lut"))) == ["8-kmeans_lut"]


def test_no_mark_gives_no_scheme():
    assert marker_options([]) == ()


def test_lists_give_every_combination():
    found = schemes((FUNCTION, mark(bits=[8, 4], mode=["linear", "kmeans_lut"])))
    assert found == ["8-linear", "8-kmeans_lut", "4-linear", "4-kmeans_lut"]


def test_the_alias_kmeans_means_kmeans_lut():
    assert schemes((FUNCTION, mark(bits=8, mode="kmeans"))) == ["8-kmeans_lut"]


def test_marks_on_one_test_add_up_without_duplicates():
    first, second = mark(bits=8, mode="linear"), mark(bits=[8, 4], mode="linear")
    assert schemes((FUNCTION, first), (FUNCTION, second)) == ["8-linear", "4-linear"]


def test_a_closer_mark_overrides_what_it_names_and_inherits_the_rest():
    (option,) = marker_options(
        [
            (FUNCTION, mark(bits=4)),
            (CLASS, mark(mode="kmeans_lut", bits=8)),
            (MODULE, mark(samples="photos", max_drop=0.02, bits=16)),
        ]
    )
    assert (option.scheme.bits, option.scheme.mode, option.samples, option.max_drop) == (
        4,
        "kmeans_lut",
        "photos",
        0.02,
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"bits": 9}, "bits=9 does not exist; use one of 16, 8, 7"),
        ({"bits": True}, "bits=True does not exist"),
        ({"bits": 8, "mode": "kmean"}, "mode='kmean' does not exist; use one of linear, linear_symmetric"),
        ({"bits": 8, "mode": "custom_lut"}, "lut_function= belong together"),
        ({"bits": []}, "bits is an empty list"),
        ({"mode": "linear"}, "needs bits="),
        ({"mode": "kmeans"}, "needs bits="),
        ({"mode": [{}]}, "mode={} does not exist"),
        ({"bits": 8, "crop_and_scale": "squash"}, "use one of center_crop, scale_fit, scale_fill"),
        ({"bits": 8, "max_drop": 2}, "max_drop=2 is no share"),
        ({"bits": 8, "max_drop": "much"}, "max_drop='much' is no share"),
        ({"bits": 8, "thresholds": 0.97}, "thresholds must be a dictionary"),
        ({"bits": 8, "model": 3}, "model=3 is no path"),
    ],
)
def test_a_wrong_value_is_refused_by_name(arguments, message):
    with pytest.raises(pytest.UsageError, match=None) as raised:
        marker_options([(FUNCTION, mark(**arguments))])
    assert message in str(raised.value)


def test_a_misspelt_argument_is_refused_with_the_closest_one():
    with pytest.raises(pytest.UsageError, match=r"no argument 'bit': did you mean bits\? valid are bits, mode"):
        keywords(mark(bit=8))


def test_a_positional_argument_is_refused():
    with pytest.raises(pytest.UsageError, match="keyword arguments only, not 8; valid are bits"):
        keywords(pytest.mark.quantized(8, mode="linear").mark)


def test_marker_paths_start_at_the_root_directory(tmp_path):
    settings = Settings(root=tmp_path, model=tmp_path / "a.mlmodel", max_drop=0.05)
    changed = MarkerOptions(scheme=Scheme(8), samples="photos").settings(settings)
    assert (changed.model, changed.samples) == (tmp_path / "a.mlmodel", tmp_path / "photos")
    assert changed.max_drop == 0.05


def test_ids_tell_models_apart():
    options = [MarkerOptions(scheme=Scheme(8), model=f"m/a.{kind}") for kind in ("mlmodel", "mlpackage")]
    assert unique_ids(options) == ["8-kmeans_lut-a.mlmodel", "8-kmeans_lut-a.mlpackage"]


def test_options_of_the_scheme_are_arguments_of_the_mark():
    (option,) = marker_options(
        [(FUNCTION, mark(bits=8, kmeans="optimal", skip_layers=["conv*"], requantize=True, samples="photos"))]
    )
    assert str(option.scheme) == "kmeans_lut:8,kmeans=optimal,skip_layers=conv*,requantize"
