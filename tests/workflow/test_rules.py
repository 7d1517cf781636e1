"""The rules name their inputs, and each runs the script of its name."""

import re

from tests.project import ROOT

FILES = sorted((ROOT / "workflow/rules").glob("*.smk"))
NAMED = re.compile(r"^ {8}(\w+)=(.*)")


def read_rules() -> dict[str, tuple[str, str]]:
    """Rule -> its text, with the lines of comments left out, and the name of its file."""
    found = {}
    for file in FILES:
        text = re.sub(r"^\s*#.*\n", "", file.read_text(), flags=re.MULTILINE)
        for part in re.split(r"^(?=(?:use )?rule )", text, flags=re.MULTILINE)[1:]:
            name = re.search(r"^(?:use rule \w+ as|rule) (\w+)", part)
            assert name, part
            found[name[1]] = part, file.name
    return found


def read_inputs(rule: str) -> str:
    """The lines below `input:`."""
    found = re.search(r"^    input:\n((?: {8}.*\n)+)", rule, flags=re.MULTILINE)
    return found[1] if found else ""


def name_inputs(rule: str) -> list[str]:
    return [found[1] for line in read_inputs(rule).splitlines() if (found := NAMED.match(line))]


def test_no_rule_hides_its_inputs_behind_a_function_that_gives_several():
    for rule, (text, file) in read_rules().items():
        assert "unpack(" not in text, f"{file}: {rule}"
        inputs = re.findall(r"^ {8}[^\s)\]].*", read_inputs(text), flags=re.MULTILINE)
        unnamed = [line for line in inputs if not NAMED.match(line)]
        assert not unnamed or len(inputs) == 1, f"{file}: {rule}: {unnamed}"


ORACLE = "train_oracle"  # it chooses on test images, to measure what that is worth
COPIES = "find_test_copies"  # it compares test images with those drawn, for the report alone


def test_predict_test_alone_reads_test_features_but_for_the_oracle_and_the_search_for_copies():
    rules = read_rules()
    assert {"features", "heads", "texts", "manifest"} <= set(name_inputs(rules["predict_test"][0]))
    readers = [
        name
        for name, (text, _) in rules.items()
        if any(
            known in read_inputs(text)
            for known in (
                "TEST_FEATURES", "head_jobs.predict_test", "head_jobs.train_oracle", "test_copies"
            )
        )
    ]  # fmt: skip
    assert sorted(readers) == [COPIES, "predict_test", ORACLE]
    assert rules[ORACLE][1] == "optimism.smk"


def test_the_near_duplicates_of_test_images_reach_the_report_alone():
    rules = read_rules()
    readers = [rule for rule, (text, _) in rules.items() if "copies" in read_inputs(text)]
    assert sorted(readers) == [COPIES, "report"]
    outputs = [rule for rule, (text, _) in rules.items() if "PATHS.copies" in text]
    assert outputs == [COPIES]


def test_nothing_outside_its_own_file_of_rules_reaches_the_oracle():
    for rule, (text, file) in read_rules().items():
        if file != "optimism.smk":
            assert "oracle" not in text, f"{file}: {rule}"
    snakefile = (ROOT / "Snakefile").read_text()
    condition = snakefile.index("if PLAN.experiment.optimism:")
    assert snakefile.index("optimism.smk") > condition


def test_an_oracle_is_given_all_that_a_head_is_but_for_images_and_a_choice():
    rules = read_rules()
    head, oracle = (
        set(re.findall(r'"(\w+)"', re.search(r"params_of\(([^)]*)\)", rules[rule][0])[1]))
        for rule in ("train_head", ORACLE)
    )
    # `on_all` is of folds, which `optimism: true` refuses.
    assert head - oracle == {"images", "validation", "on_all"}
    assert "load_projection(" in (ROOT / "workflow/scripts/train_oracle.py").read_text()


def test_every_rule_runs_the_script_of_its_own_name():
    for rule, (text, file) in read_rules().items():
        for script in re.findall(r'"\.\./scripts/(\w+)\.py"', text):
            assert script == rule, f"{file}: {rule}"
            content = (ROOT / "workflow/scripts" / f"{rule}.py").read_text()
            assert content.startswith(f'"""Rule {rule}: vtclip.')
