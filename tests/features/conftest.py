from pathlib import Path

import numpy as np
import pytest
from PIL import Image


@pytest.fixture
def images(tmp_path, manifest) -> Path:
    """A folder with a picture for each row of the manifest."""
    generator = np.random.default_rng(0)
    for image in manifest["image"]:
        path = tmp_path / "images" / image
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(generator.integers(0, 255, (40, 50, 3), dtype=np.uint8)).save(path)
    return tmp_path / "images"
