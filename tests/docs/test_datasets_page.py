import json
import re
import runpy
from pathlib import Path

import yaml

from vtclip.config.dataset import Dataset
from vtclip.data.manifest import prepare_manifest

DOCS = Path(__file__).parents[2] / "docs"


def test_the_datasets_page_is_what_its_script_writes_now():
    script = runpy.run_path(str(DOCS / "make_datasets.py"))
    page = script["render_page"](script["read_datasets"]())
    assert (DOCS / "datasets.md").read_text() == page, "run: python docs/make_datasets.py"


def test_the_split_file_and_the_dataset_that_the_page_shows_can_be_read(tmp_path):
    section = (DOCS / "datasets.md").read_text().partition("### With a split file")[2]
    split, described = re.findall(r"```\w+\n(.*?)```", section, re.DOTALL)[:2]
    (tmp_path / "split.json").write_text(split)
    for rows in json.loads(split).values():
        for image, *_ in rows:
            (tmp_path / image).parent.mkdir(exist_ok=True)
            (tmp_path / image).write_bytes(image.encode())
    dataset = Dataset.model_validate(yaml.safe_load(described)).model_dump(mode="json")
    assert prepare_manifest(dataset, tmp_path, tmp_path / "m").height == 4
