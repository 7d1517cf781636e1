"""What the rules look like: they point at the plan, and hold no logic of their own."""

import ast

from tests.project import ROOT

COMMON = ROOT / "workflow/rules/common.smk"


def test_the_common_rules_are_short_and_their_functions_have_three_lines_at_most():
    text = COMMON.read_text()
    assert len(text.splitlines()) < 150
    code = text.split("# MB and minutes")[1].partition("\n")[2]  # below it, plain Python
    functions = [node for node in ast.parse(code).body if isinstance(node, ast.FunctionDef)]
    assert len(functions) > 3
    for function in functions:
        body = [node for node in function.body if not is_docstring(node)]
        lines = body[-1].end_lineno - body[0].lineno + 1
        assert lines <= 3, f"{function.name} has {lines} lines"


def is_docstring(node):
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)


def test_every_rule_runs_the_script_of_its_own_name():
    for file in (ROOT / "workflow/rules").glob("*.smk"):
        rule = None
        for line in file.read_text().splitlines():
            if line.startswith("rule "):
                rule = line.removeprefix("rule ").removesuffix(":")
            if "../scripts/" in line:
                assert line.strip() == f'"../scripts/{rule}.py"', f"{file.name}: {rule}"
                script = ROOT / "workflow/scripts" / f"{rule}.py"
                assert script.read_text().startswith(f'"""Rule {rule}: vtclip.')
