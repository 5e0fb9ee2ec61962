"""Public functions say what their arguments are, where there are enough of them that a sentence can't."""

import ast
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
MANY = 4
ELSEWHERE = ("The arguments are those of", "Arguments as")


def test_a_public_function_with_many_arguments_explains_each():
    lacking = []
    for package in ("sweeps", "analysis", "trainables"):
        for path in sorted((ROOT / package).rglob("*.py")):
            for node in ast.parse(path.read_text(encoding="utf-8")).body:
                if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) or node.name.startswith("_"):
                    continue
                names = [one.arg for one in (*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs)]
                text = ast.get_docstring(node) or ""
                if len(names) < MANY or any(words in text for words in ELSEWHERE):
                    continue
                explained = text.partition("Args:\n")[2]
                lacking += [f"{path.relative_to(ROOT)} {node.name}: {name}" for name in names if name not in explained]
    assert lacking == []
