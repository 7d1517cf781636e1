"""What every layout gives: a row for each image."""

SPLITS = ("train", "val", "test")
Row = tuple[str, int, str, str]  # image, label, class name, split


class ManifestError(ValueError):
    """A split file or a folder of images that is not what the dataset's file promises."""
