"""Samples as plain values."""

from dataclasses import dataclass
from pathlib import Path

CROP_AND_SCALE = ("center_crop", "scale_fit", "scale_fill")
"""Vision's VNImageCropAndScaleOption: centerCrop, scaleFit, scaleFill."""


@dataclass(frozen=True)
class Sample:
    """One image file of a sample folder."""

    name: str
    """Path inside the folder with `/`, in Unicode NFC; the same on every platform."""
    path: Path
    label: str | None
    """The model's label, as text, that the sample's folder stands for; None without labels."""
    digest: str
    """SHA-256 (hexadecimal) of the file's bytes."""


@dataclass(frozen=True)
class SampleFolder:
    """The samples of a folder, sorted by name."""

    path: Path
    samples: tuple[Sample, ...]

    @property
    def labelled(self) -> bool:
        """Whether every sample has a label."""
        return bool(self.samples) and all(sample.label is not None for sample in self.samples)
