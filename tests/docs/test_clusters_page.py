"""The profiles in docs/clusters.md name the rules that exist."""

import re

import pytest
import yaml

from tests.project import ROOT

PAGE = (ROOT / "docs/clusters.md").read_text()
BLOCKS = [yaml.safe_load(block) for block in re.findall(r"^```yaml\n(.*?)^```$", PAGE, re.M | re.S)]
PROFILES = [block for block in BLOCKS if "set-resources" in block]
RULES = "\n".join(file.read_text() for file in (ROOT / "workflow/rules").glob("*.smk"))


@pytest.mark.parametrize("profile", PROFILES, ids=lambda profile: profile["executor"])
def test_a_scheduler_that_is_told_of_gpus_by_rule_is_told_of_every_rule_that_uses_one(profile):
    rules = set(re.findall(r"^rule ((?:extract|train|predict)_\w+):", RULES, re.M))
    assert set(profile["set-resources"]) == rules - {"extract_texts"}  # on a CPU
