import re

import yaml

from tests.cli.conftest import NAMES, add_calibration, here, made  # noqa: F401  (fixtures)
from vtclip.__main__ import main
from vtclip.files import measure, read_record, write_record

RUN = "mine/pets/linear_probe/1shot-seed1"
FOLDER = "results/mine/heads/glyph-clip-mine/pets/linear_probe/1shot-seed1"


def test_the_card_beside_an_exported_file_says_what_it_is_and_how_good(here, capsys):  # noqa: F811
    add_calibration(here / FOLDER)
    record = here / FOLDER / "run.json"
    write_record(record, read_record(record) | {"val_accuracy": 0.75})
    assert main(["export", RUN, "out/pets.safetensors", "--with-backbone"]) == 0
    card = (here / "out" / "README.md").read_text()
    front = yaml.safe_load(card.split("---\n")[1])
    assert front["library_name"] == "vtclip"
    assert front["pipeline_tag"] == "image-classification"
    for said in ("1 shot per class", "`pets`", "validation images: 75.0%", "40 validation images",
                 *(f"`{name}`" for name in NAMES)):  # fmt: skip
        assert said in card
    code = re.search(r"```python\n(.*?)```", card, re.DOTALL)[1]
    assert len(code.splitlines()) == 3
    exec(code.replace("pets.safetensors", "out/pets.safetensors").replace("image.jpg", "0.png"))  # noqa: S102
    assert any(name in capsys.readouterr().out for name in NAMES)


def test_a_readme_that_is_no_card_is_never_written_over(here):  # noqa: F811
    (here / "README.md").write_text("mine")
    for _ in range(2):
        assert main(["export", RUN, "pets.safetensors"]) == 0
    assert (here / "README.md").read_text() == "mine"
    assert (here / "pets.safetensors.md").is_file()
    assert measure(here / "pets.safetensors.md")["bytes"] > 500
