import runpy
from pathlib import Path

DOCS = Path(__file__).parents[2] / "docs"


def test_the_datasets_page_is_what_its_script_writes_now():
    script = runpy.run_path(str(DOCS / "make_datasets.py"))
    page = script["render_page"](script["read_datasets"]())
    assert (DOCS / "datasets.md").read_text() == page, "run: python docs/make_datasets.py"
