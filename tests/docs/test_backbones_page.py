"""docs/backbones.md and the README's selection agree with the plan."""

import re
import runpy
from pathlib import Path

from vtclip.backbones.known import list_names
from vtclip.config.backbone_config import BackboneConfig
from vtclip.plan.checks import check_weights

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "backbones.md"


def read_rows() -> dict[str, dict[str, str]]:
    """The page's table: name -> column -> cell."""
    head, _, *rows = PAGE.read_text().rpartition("\n| name ")[2].splitlines()
    columns = ["name", *re.findall(r"\w+", head)]
    cells = [[cell.strip() for cell in row.strip("|").split("|")] for row in rows]
    return {
        re.search(r"`(.+)`", row[0]).group(1): dict(zip(columns, row, strict=True)) for row in cells
    }


def test_the_backbones_page_is_what_its_script_writes_now():
    script = runpy.run_path(str(ROOT / "docs" / "make_backbones.py"))
    assert PAGE.read_text() == script["render_page"](), "run: python docs/make_backbones.py"


def test_the_backbones_page_has_a_row_for_every_configuration():
    rows = read_rows()
    assert sorted(rows) == list_names()
    assert {row["spatial"] for row in rows.values()} == {"projected, raw"}
    assert rows["RN50-quickgelu"] | {"GFLOPs": "", "GB": ""} == {
        "name": "`RN50-quickgelu`", "kind": "resnet", "spatial": "projected, raw", "D": "1,024",
        "pixels": "224", "places": "49", "width": "2,048", "GFLOPs": "", "GB": "",
        "methods": "all but clip_lora, two_stage", "weights": "openai, yfcc15m, cc12m",
    }  # fmt: skip
    narrow = "all; coop (context: 12); prograd (context: 12)"
    assert rows["ViT-SO400M-14-SigLIP"]["methods"] == narrow
    assert "openai" not in rows["RN50"]["weights"], "they were trained with QuickGELU"


def test_the_readmes_selection_agrees_with_the_page_and_can_be_downloaded():
    rows, table = read_rows(), (ROOT / "README.md").read_text()
    choice = re.findall(r"\n\| `(\S+)` \| `(\S+)` \| (\S+) \| (\S+) \| (.+) \|", table)
    assert len(choice) == 5
    for name, tag, gflops, memory, _ in choice:
        assert (gflops, memory) == (rows[name]["GFLOPs"], rows[name]["GB"]), name
        check_weights(BackboneConfig(name=name, pretrained=tag))
    assert float(choice[-1][3]) < 16
