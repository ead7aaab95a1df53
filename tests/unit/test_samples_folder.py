"""Sample folders: which files, which order, which labels."""

import hashlib
import os
import random
import unicodedata

import pytest
from PIL import Image

from pytest_quantguard.errors import SampleError
from pytest_quantguard.samples.folder import folder_digest, read_sample_folder

LABELS = ("hot dog", "pizza", "french fries")


@pytest.fixture
def put(tmp_path):
    """Write files (their own name as content) into the sample folder `tmp_path/samples`, which it returns."""
    root = tmp_path / "samples"
    root.mkdir()

    def write(*names):
        for name in names:
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).write_bytes(name.encode())
        return root

    return write


def names(folder):
    return [sample.name for sample in folder.samples]


def labels(folder):
    return {sample.name: sample.label for sample in folder.samples}


def test_a_folder_name_is_a_label_exactly_or_with_underscores_for_spaces(put):
    folder = read_sample_folder(put("pizza/a.jpg", "hot_dog/b.jpg", "french fries/c.jpg"), LABELS)
    assert labels(folder) == {
        "french fries/c.jpg": "french fries",
        "hot_dog/b.jpg": "hot dog",
        "pizza/a.jpg": "pizza",
    }
    assert folder.labelled


def test_an_exact_match_wins_over_one_with_underscores(put):
    folder = read_sample_folder(put("hot_dog/a.jpg", "hot dog/b.jpg"), ("hot dog", "hot_dog"))
    assert labels(folder) == {"hot_dog/a.jpg": "hot_dog", "hot dog/b.jpg": "hot dog"}


def test_a_folder_that_may_stand_for_two_labels_is_an_error(put):
    with pytest.raises(SampleError, match=r"'a_b_c' .* several labels: 'a b_c', 'a_b c'"):
        read_sample_folder(put("a_b_c/x.jpg"), ("a b_c", "a_b c"))


def test_a_label_that_the_model_lists_twice_is_one_label(put):
    assert labels(read_sample_folder(put("red_crane/x.jpg"), ("red crane", "maillot", "red crane"))) == {
        "red_crane/x.jpg": "red crane"
    }


def test_an_underscore_stands_for_a_slash_which_no_folder_name_can_hold(put):
    assert labels(read_sample_folder(put("AC_DC/x.jpg"), ("AC/DC",))) == {"AC_DC/x.jpg": "AC/DC"}


def test_labels_that_are_numbers_are_matched_as_text(put):
    assert labels(read_sample_folder(put("7/x.png", "10/y.png"), (7, 10))) == {"7/x.png": "7", "10/y.png": "10"}


def test_accents_match_in_either_unicode_form(put):
    decomposed = unicodedata.normalize("NFD", "crème brûlée")
    folder = read_sample_folder(put(f"{decomposed}/x.jpg"), ("crème brûlée",))
    assert labels(folder) == {"crème brûlée/x.jpg": "crème brûlée"}
    folder = read_sample_folder(folder.path, (decomposed,))
    assert folder.samples[0].label == decomposed


def test_an_unknown_folder_is_named_with_the_closest_labels(put):
    root = put("hotdog/a.jpg", "Pizza/b.jpg", "zebra/c.jpg", "pizza/d.jpg")
    with pytest.raises(SampleError) as caught:
        read_sample_folder(root, LABELS)
    message = str(caught.value)
    assert "folders that are no label of the model" in message
    assert "'hotdog' (closest: 'hot dog')" in message
    assert "'Pizza' (closest: 'pizza')" in message
    assert "'zebra';" in message
    assert "--quantguard-allow-unknown-labels" in message


def test_one_unknown_folder_is_named_in_the_singular(put):
    with pytest.raises(SampleError, match=r"holds a folder that is no label of the model: 'hotdog' \(closest"):
        read_sample_folder(put("hotdog/a.jpg", "pizza/d.jpg"), LABELS)


def test_allowed_unknown_folders_have_samples_without_label(put):
    folder = read_sample_folder(put("hotdog/a.jpg", "pizza/b.jpg", "c.jpg"), LABELS, allow_unknown_labels=True)
    assert labels(folder) == {"c.jpg": None, "hotdog/a.jpg": None, "pizza/b.jpg": "pizza"}
    assert not folder.labelled


def test_a_flat_folder_has_samples_without_labels(put):
    folder = read_sample_folder(put("b.jpg", "a.jpg"), LABELS)
    assert labels(folder) == {"a.jpg": None, "b.jpg": None}
    assert not folder.labelled


def test_a_model_without_labels_takes_any_folders(put):
    folder = read_sample_folder(put("z.jpg", "day/one/a.jpg", "night/b.jpg"), None)
    assert labels(folder) == {"day/one/a.jpg": None, "night/b.jpg": None, "z.jpg": None}


def test_files_beside_label_folders_are_an_error_that_names_them(put):
    with pytest.raises(
        SampleError, match=r"files beside its label folders: 'notes\.txt', 'stray\.jpg'; move each"
    ):
        read_sample_folder(put("pizza/a.jpg", "stray.jpg", "notes.txt"), LABELS)


def test_deeper_folders_belong_to_the_label_folder_that_holds_them(put):
    folder = read_sample_folder(put("pizza/margherita/a.jpg", "pizza/b.jpg"), LABELS)
    assert labels(folder) == {"pizza/b.jpg": "pizza", "pizza/margherita/a.jpg": "pizza"}


def test_hidden_files_and_what_file_managers_leave_are_ignored(put):
    root = put(
        "pizza/a.jpg",
        ".DS_Store",
        "pizza/.DS_Store",
        "pizza/._a.jpg",
        "pizza/Thumbs.db",
        "pizza/desktop.ini",
        "pizza/Icon\r",
        ".git/config",
        "__MACOSX/pizza/a.jpg",
        ".ipynb_checkpoints/a.jpg",
        "Desktop.ini",
    )
    assert names(read_sample_folder(root, LABELS)) == ["pizza/a.jpg"]


def test_every_other_file_is_a_sample_whatever_its_suffix(put):
    root = put("pizza/a.txt", "pizza/photo", "pizza/b (1)=x.JPG", "pizza/c.jpg.bak")
    assert names(read_sample_folder(root, LABELS)) == [
        "pizza/a.txt",
        "pizza/b (1)=x.JPG",
        "pizza/c.jpg.bak",
        "pizza/photo",
    ]


def test_the_order_is_by_code_points_whatever_order_the_system_lists(put, monkeypatch):
    expected = ["pizza/A.jpg", "pizza/Z.jpg", "pizza/_.jpg", "pizza/a.jpg", "pizza/Ä.jpg", "pizza/é.jpg"]
    root = put(*[unicodedata.normalize("NFD", name) for name in expected])
    scandir = os.scandir

    class Shuffled(list):
        def __enter__(self):
            return self

        def __exit__(self, *_):
            return None

    def shuffled(path):
        with scandir(path) as scan:
            entries = list(scan)
        random.Random(7).shuffle(entries)
        return Shuffled(entries)

    monkeypatch.setattr(os, "scandir", shuffled)
    assert names(read_sample_folder(root, LABELS)) == expected


def test_names_are_in_nfc_and_paths_open_the_file(put):
    decomposed = unicodedata.normalize("NFD", "pizza/über.jpg")
    sample = read_sample_folder(put(decomposed), LABELS).samples[0]
    assert sample.name == unicodedata.normalize("NFC", decomposed) != decomposed
    assert sample.path.read_bytes() == decomposed.encode()


def test_names_that_are_equal_after_nfc_are_both_kept(put):
    composed, decomposed = (unicodedata.normalize(form, "pizza/é.jpg") for form in ("NFC", "NFD"))
    folder = read_sample_folder(put(composed, decomposed), LABELS)
    if len(list((folder.path / "pizza").iterdir())) == 1:
        pytest.skip("this file system takes both names for one")
    assert names(folder) == [composed, composed]
    assert folder == read_sample_folder(folder.path, LABELS)


def test_digests_are_sha256_of_the_bytes(put):
    sample = read_sample_folder(put("a.jpg"), None).samples[0]
    assert sample.digest == hashlib.sha256(b"a.jpg").hexdigest()


def test_the_folder_digest_knows_names_and_contents_but_no_order_and_no_place(put, tmp_path):
    root = put("pizza/a.jpg", "pizza/b.jpg")
    samples = read_sample_folder(root, LABELS).samples
    before = folder_digest(samples)
    assert before == folder_digest(reversed(samples))
    moved = root.rename(tmp_path / "elsewhere")
    assert folder_digest(read_sample_folder(moved, LABELS).samples) == before
    (moved / "pizza/a.jpg").rename(moved / "pizza/c.jpg")
    renamed = folder_digest(read_sample_folder(moved, LABELS).samples)
    (moved / "pizza/c.jpg").rename(moved / "pizza/a.jpg")
    (moved / "pizza/a.jpg").write_bytes(b"other")
    altered = folder_digest(read_sample_folder(moved, LABELS).samples)
    assert len({before, renamed, altered}) == 3


def test_the_folder_digest_is_pinned(put):
    # Committed baselines hold it: another digest would call every sample set changed.
    assert folder_digest(read_sample_folder(put("pizza/a.jpg", "pizza/b.jpg"), LABELS).samples) == (
        hashlib.sha256(
            b"".join(
                f"{name}\0{hashlib.sha256(name.encode()).hexdigest()}\0".encode()
                for name in ("pizza/a.jpg", "pizza/b.jpg")
            )
        ).hexdigest()
    )


def test_a_missing_folder_is_named_with_the_option(tmp_path):
    with pytest.raises(SampleError, match=r"'.*nowhere' does not exist; .*--quantguard-samples"):
        read_sample_folder(tmp_path / "nowhere", LABELS)


def test_a_file_in_place_of_a_folder_is_an_error(put):
    with pytest.raises(SampleError, match=r"a\.jpg' is a file, not a folder"):
        read_sample_folder(put("a.jpg") / "a.jpg", LABELS)


def test_a_folder_without_samples_is_an_error(put):
    root = put(".DS_Store", "Thumbs.db")
    (root / "pizza").mkdir()
    with pytest.raises(SampleError, match="holds no images"):
        read_sample_folder(root, LABELS)


def link(path, target, *, is_folder=False):
    try:
        path.symlink_to(target, target_is_directory=is_folder)
    except OSError:
        pytest.skip("links cannot be made here")


def test_a_link_to_a_file_is_read_like_a_file(put, tmp_path):
    (tmp_path / "store").write_bytes(b"elsewhere")
    root = put("pizza/a.jpg")
    link(root / "pizza/b.jpg", tmp_path / "store")
    folder = read_sample_folder(root, LABELS)
    assert names(folder) == ["pizza/a.jpg", "pizza/b.jpg"]
    assert folder.samples[1].digest == hashlib.sha256(b"elsewhere").hexdigest()


@pytest.mark.parametrize("place", ["hot_dog", "pizza/more"])
def test_a_link_to_a_folder_is_refused_by_name(put, tmp_path, place):
    root = put("pizza/a.jpg")
    link(root / place, tmp_path, is_folder=True)
    with pytest.raises(SampleError, match=f"{place}' is a link to a folder"):
        read_sample_folder(root, LABELS)


def test_the_sample_folder_itself_may_be_a_link(put, tmp_path):
    link(tmp_path / "linked", put("pizza/a.jpg"), is_folder=True)
    assert names(read_sample_folder(tmp_path / "linked", LABELS)) == ["pizza/a.jpg"]


def test_a_broken_link_is_refused_by_name(put):
    root = put("pizza/a.jpg")
    link(root / "pizza/b.jpg", root / "nowhere")
    with pytest.raises(SampleError, match=r"b\.jpg' is a broken link or no ordinary file"):
        read_sample_folder(root, LABELS)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_a_pipe_is_refused_and_not_waited_for(put):
    root = put("pizza/a.jpg")
    os.mkfifo(root / "pizza/pipe.jpg")
    with pytest.raises(SampleError, match=r"pipe\.jpg' is a broken link or no ordinary file"):
        read_sample_folder(root, LABELS)


@pytest.mark.skipif(os.name == "nt" or os.uname().sysname == "Darwin", reason="needs file names of any bytes")
def test_a_file_name_that_is_no_unicode_is_refused(put):
    root = put("pizza/a.jpg")
    (root / "pizza" / os.fsdecode(b"caf\xe9.jpg")).touch()
    with pytest.raises(SampleError, match=r"caf\\udce9\.jpg' is no valid Unicode"):
        read_sample_folder(root, LABELS)


@pytest.mark.parametrize("place", ["pizza/a.jpg", "pizza"])
def test_what_cannot_be_read_is_named(put, monkeypatch, place):
    root = put("pizza/a.jpg")
    real_open, real_scan = type(root).open, os.scandir

    def refuse(real):
        def attempt(path, *arguments):
            if os.fspath(path) == str(root / place):
                raise PermissionError(13, "Permission denied")
            return real(path, *arguments)

        return attempt

    monkeypatch.setattr(type(root), "open", refuse(real_open))
    monkeypatch.setattr(os, "scandir", refuse(real_scan))
    with pytest.raises(SampleError, match=rf"{place}' cannot be read: Permission denied"):
        read_sample_folder(root, LABELS)


def test_folders_nested_two_hundred_deep_are_walked(put):
    deep = "pizza/" + "d/" * 200 + "a.jpg"
    assert names(read_sample_folder(put(deep), LABELS)) == [deep]


def test_seven_hundred_files_are_read_with_their_digests(put):
    root = put(*[f"pizza/{number:03}.jpg" for number in range(700)])
    folder = read_sample_folder(root, LABELS)
    assert all(sample.digest == hashlib.sha256(sample.name.encode()).hexdigest() for sample in folder.samples)
    assert len(folder.samples) == 700


def test_reading_a_folder_opens_no_image(put, monkeypatch):
    monkeypatch.setattr(Image, "open", lambda *_: pytest.fail("an image was opened"))
    assert len(read_sample_folder(put("pizza/a.jpg"), LABELS).samples) == 1
