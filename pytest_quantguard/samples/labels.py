"""Which label a sample folder's sub-folder stands for."""

import difflib
import unicodedata
from collections.abc import Iterable, Sequence
from pathlib import Path

from pytest_quantguard.errors import SampleError
from pytest_quantguard.samples.naming import first_ten


def match_folders(
    path: Path, folders: Iterable[str], labels: Sequence[str | int], *, allow_unknown: bool = False
) -> dict[str, str | None]:
    """Find the label of each folder name.

    A name stands for the label that it equals. Failing that, `_` in a name may stand for a space or a `/` of the
    label. Upper and lower case differ, as they may in labels.

    Args:
        path: the sample folder, for messages.
        folders: names of its sub-folders, in Unicode NFC.
        labels: the model's labels; numbers are matched as text.
        allow_unknown: give None to a folder that matches no label instead of failing.

    Returns:
        By folder name: the label as text, exactly as the model has it.

    Raises:
        SampleError: folders match no label (with the closest labels), or one matches several.
    """
    texts = list(dict.fromkeys(str(label) for label in labels))
    exact = {unicodedata.normalize("NFC", text): text for text in texts}
    loose: dict[str, list[str]] = {}
    for text in texts:
        loose.setdefault(_loosened(text), []).append(text)
    found: dict[str, str | None] = {}
    for folder in sorted(folders):
        candidates = [exact[folder]] if folder in exact else loose.get(_loosened(folder), [])
        if len(candidates) > 1:
            raise SampleError(
                f"The folder '{folder}' in the sample folder '{path}' may stand for several labels: "
                f"{first_ten(candidates)}; rename it to one of them exactly."
            )
        found[folder] = candidates[0] if candidates else None
    unknown = [folder for folder, label in found.items() if label is None]
    if unknown and not allow_unknown:
        raise SampleError(_unknown_message(path, unknown, texts))
    return found


def closest_labels(folder: str, labels: Sequence[str]) -> list[str]:
    """The up to three labels that are most like a folder name, without regard to case, `_` and accents' form."""
    by_likeness = {_loosened(label).casefold(): label for label in reversed(labels)}
    return [by_likeness[match] for match in difflib.get_close_matches(_loosened(folder).casefold(), by_likeness)]


def _loosened(text: str) -> str:
    return unicodedata.normalize("NFC", text).replace(" ", "_").replace("/", "_")


def _unknown_message(path: Path, unknown: Sequence[str], labels: Sequence[str]) -> str:
    described = []
    for folder in unknown[:10]:
        closest = closest_labels(folder, labels)
        described.append(f"'{folder}'" + (f" (closest: {first_ten(closest)})" if closest else ""))
    more = f" and {len(unknown) - 10} more" if len(unknown) > 10 else ""
    one = len(unknown) == 1
    return (
        f"The sample folder '{path}' holds {'a folder that is' if one else 'folders that are'} no label of the "
        f"model: {', '.join(described)}{more}; rename {'it' if one else 'them'} to labels of the model "
        f"({first_ten(labels)}), or allow unknown labels with --quantguard-allow-unknown-labels, which measures "
        "agreement only."
    )
