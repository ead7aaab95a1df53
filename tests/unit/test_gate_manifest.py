import json

import pytest
from gate_examples import digest_of, sample_set

from pytest_quantguard.errors import BaselineError
from pytest_quantguard.gate.manifest import (
    SampleChanges,
    manifest_path,
    read_manifest,
    sample_changes,
    write_manifest,
)


def test_a_manifest_is_named_after_its_digest_and_holds_short_digests(tmp_path):
    samples = sample_set(["b.png", "a.png"])
    write_manifest(tmp_path / "__quantguard__", samples)
    path = manifest_path(tmp_path / "__quantguard__", samples.digest)
    assert path.name == f"samples-{samples.digest[:12]}.json" and path.exists()
    stored = read_manifest(path.parent, samples.digest)
    assert stored == {"a.png": digest_of("a.png")[:16], "b.png": digest_of("b.png")[:16]}


def test_a_manifest_is_written_once_and_again_when_damaged(tmp_path):
    samples = sample_set(["a.png"])
    write_manifest(tmp_path, samples)
    path = manifest_path(tmp_path, samples.digest)
    text = path.read_text()
    path.write_text(text + "\n")
    write_manifest(tmp_path, samples)
    assert path.read_text() == text + "\n"
    path.write_text(text[:-10])
    write_manifest(tmp_path, samples)
    assert path.read_text() == text


def test_names_that_are_no_text_survive(tmp_path):
    samples = sample_set(["caf\udce9.png".encode("utf-8", "surrogateescape").decode("latin-1"), "a\n.png"])
    write_manifest(tmp_path, samples)
    assert set(read_manifest(tmp_path, samples.digest)) == {name for name, _ in samples.entries}


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{}",
        '{"digest": "DIGEST"}',
        '{"digest": "DIGEST", "samples": {"a": 1}}',
        '{"samples": {}}',
        "\xff",
    ],
)
def test_a_damaged_manifest_is_as_good_as_none(tmp_path, text):
    digest = digest_of("x")
    manifest_path(tmp_path, digest).write_bytes(text.replace("DIGEST", digest).encode("latin-1"))
    assert read_manifest(tmp_path, digest) is None


def test_a_manifest_of_another_set_with_the_same_first_digits_is_not_taken(tmp_path):
    digest = digest_of("x")
    other = digest[:12] + "0" * 52
    manifest_path(tmp_path, digest).write_text(json.dumps({"digest": other, "samples": {}}))
    assert read_manifest(tmp_path, digest) is None
    assert read_manifest(tmp_path, other) == {}


def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "__quantguard__").write_text("")
    with pytest.raises(BaselineError, match="__quantguard__"):
        write_manifest(tmp_path / "__quantguard__", sample_set(["a.png"]))


def test_added_removed_and_altered_samples_are_told(tmp_path):
    write_manifest(tmp_path, before := sample_set(["a", "b", "c"]))
    now = sample_set(["b", "c", "d"], altered=["c"])
    changes = sample_changes(read_manifest(tmp_path, before.digest), now)
    assert changes == SampleChanges(added=("d",), removed=("a",), altered=("c",))
    assert str(changes) == "1 added (d), 1 removed (a), 1 altered (c)"


def test_long_lists_are_cut_and_names_cleaned():
    changes = SampleChanges(added=tuple(f"{index}\x1b.png" for index in range(9)), removed=(), altered=())
    assert str(changes) == "9 added (0?.png, 1?.png, 2?.png, 6 more)"
