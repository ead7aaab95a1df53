"""Which shapes an input allows, from its `FeatureDescription`."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

Shape = tuple[int, ...]


@dataclass(frozen=True)
class AllowedShapes:
    """The shapes of an array, or (height, width) of an image.

    Args:
        default: the shape that is taken where nothing else is said; empty if the file states none.
        listed: further shapes (`enumeratedShapes`, `enumeratedSizes`).
        ranges: lowest and highest size per axis (`shapeRange`, `imageSizeRange`); None has no upper end.
    """

    default: Shape
    listed: frozenset[Shape] = frozenset()
    ranges: tuple[tuple[int, int | None], ...] = ()

    def allows(self, shape: Sequence[int]) -> bool:
        """Whether a shape is among them; a file that states none allows any."""
        shape = tuple(shape)
        if shape == self.default or shape in self.listed:
            return True
        if self.ranges:
            return len(shape) == len(self.ranges) and all(
                low <= size and (high is None or size <= high)
                for size, (low, high) in zip(shape, self.ranges, strict=True)
            )
        return not self.default and not self.listed

    def __str__(self) -> str:
        if self.ranges:
            return " x ".join(
                str(low) if low == high else f"{low} to {'any' if high is None else high}"
                for low, high in self.ranges
            )
        return " or ".join(str(shape) for shape in [self.default, *sorted(self.listed - {self.default})])


def allowed_shapes(feature: Any) -> AllowedShapes:
    """The shapes of an input (specification: `ArrayFeatureType`, `ImageFeatureType`, `SequenceFeatureType`)."""
    kind = feature.type.WhichOneof("Type")
    if kind == "imageType":
        return _image_sizes(feature.type.imageType)
    if kind == "multiArrayType":
        return _array_shapes(feature.type.multiArrayType)
    if kind == "sequenceType" and feature.type.sequenceType.HasField("sizeRange"):
        return AllowedShapes((), ranges=(_range(feature.type.sequenceType.sizeRange),))
    return AllowedShapes(())


def _image_sizes(image: Any) -> AllowedShapes:
    listed = [(size.height, size.width) for size in image.enumeratedSizes.sizes]
    ranges = [_range(image.imageSizeRange.heightRange), _range(image.imageSizeRange.widthRange)]
    flexible = image.WhichOneof("SizeFlexibility") == "imageSizeRange"
    default = (image.height, image.width)
    if not all(default):
        default = listed[0] if listed else (ranges[0][0], ranges[1][0])
    return AllowedShapes(default, frozenset(listed), tuple(ranges) if flexible else ())


def _array_shapes(array: Any) -> AllowedShapes:
    listed = [tuple(entry.shape) for entry in array.enumeratedShapes.shapes]
    ranges = tuple(_range(size) for size in array.shapeRange.sizeRanges)
    default = tuple(array.shape) or (listed[0] if listed else tuple(low for low, _ in ranges))
    return AllowedShapes(default, frozenset(listed), ranges)


def _range(size: Any) -> tuple[int, int | None]:
    return int(size.lowerBound), None if size.upperBound < 0 else int(size.upperBound)
