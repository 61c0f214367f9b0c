"""The house: imports go one way, and only the command line waits to import."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import zhumo

PACKAGE = Path(zhumo.__file__).parent

# Each may import only what stands to its left; rooms of one line may not import each other unless listed in order.
ORDER = (
    "words", "errors", "recipe", "run", "privacy", "tokenizer", "sources", "transformer", "engine", "weights",
    "metrics", "baselines", "tasks", "bundle", "harness", "prepare", "build", "train", "evaluate", "compare", "deploy",
    "make", "support", "plan", "doctor", "cli", "__init__", "__main__",
)  # fmt: skip
# baselines are handed their task as an argument: they name its type and never call a task by name.
TYPES_ONLY = {("baselines", "tasks")}
LAZY = {"cli", "__init__"}


def room(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imports(tree: ast.AST) -> Iterator[tuple[str, ast.stmt]]:
    """Rooms a module imports, with the statement."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "zhumo":
            names = [node.module] if "." in node.module else [f"zhumo.{alias.name}" for alias in node.names]
            for name in names:
                yield name.split(".")[1], node
        elif isinstance(node, ast.Import):
            for alias in node.names:
                if alias.name.startswith("zhumo."):
                    yield alias.name.split(".")[1], node


FILES = sorted(path for path in PACKAGE.rglob("*.py"))


def test_every_room_has_its_place() -> None:
    assert {room(path) for path in FILES} <= set(ORDER)


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_go_left(path: Path) -> None:
    here = room(path)
    tree = ast.parse(path.read_text(encoding="utf-8"))
    typed = {
        id(child)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
        for child in ast.walk(node)
    }
    for there, node in imports(tree):
        if there == here or (there in ("ZhumoError", "Recipe", "__version__", "load", "make") and here in LAZY):
            continue
        if (here, there) in TYPES_ONLY and id(node) in typed:
            continue
        assert ORDER.index(there) < ORDER.index(here), f"{here} imports {there} (line {node.lineno})"


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_only_the_command_line_imports_inside_functions(path: Path) -> None:
    if room(path) in LAZY:
        return
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for function in ast.walk(tree):
        if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef):
            hidden = [there for there, _ in imports(function)]
            assert not hidden, f"{function.name} imports {hidden}"


def test_the_core_stands_on_torch_alone() -> None:
    for path in (PACKAGE / "transformer").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            names += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            for name in names:
                top = name.split(".")[0]
                assert top == "torch" or name.startswith("zhumo.transformer") or top in STDLIB, f"{path.name}: {name}"


def test_the_core_can_be_read_in_one_sitting() -> None:
    core, families = PACKAGE / "transformer", PACKAGE / "transformer" / "families"
    lines = {path: len(path.read_text(encoding="utf-8").splitlines()) for path in core.rglob("*.py")}
    assert sum(count for path, count in lines.items() if path.parent == core) <= 2_000
    shared = ("__init__.py", "family.py")  # the table of families, and what is the same in all of them
    assert all(count <= 150 for path, count in lines.items() if path.parent == families and path.name not in shared)


STDLIB = set(__import__("sys").stdlib_module_names)
