"""The never-list of the design, read off the syntax tree: no way to run a stranger's code is in the package."""

import ast
from pathlib import Path

import pytest

import zhumo

PACKAGE = Path(zhumo.__file__).parent
FILES = sorted(PACKAGE.rglob("*.py"))
MODULES = {"pickle", "cPickle", "marshal", "shelve", "dill", "joblib", "cloudpickle"}
CALLS = {
    "eval", "exec", "compile", "__import__", "os.system", "os.popen", "torch.load", "torch.save", "torch.hub.load",
    "yaml.load", "yaml.unsafe_load", "yaml.full_load", "numpy.load", "np.load",
}  # fmt: skip
CLIENTS = {"requests", "httpx", "urllib3", "aiohttp"}


def names(tree: ast.AST) -> set[str]:
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module.split(".")[0])
    return found


def problems(tree: ast.AST) -> list[str]:
    found = [f"imports {name}" for name in sorted(names(tree) & (MODULES | CLIENTS))]
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            if ast.unparse(node.func) in CALLS:
                found.append(f"line {node.lineno}: calls {ast.unparse(node.func)}")
            for keyword in node.keywords:
                if (
                    keyword.arg in ("shell", "trust_remote_code", "allow_pickle")
                    and ast.unparse(keyword.value) != "False"
                ):
                    found.append(f"line {node.lineno}: {keyword.arg}")
        if isinstance(node, ast.ExceptHandler) and node.type is None:
            found.append(f"line {node.lineno}: a bare except")
        if isinstance(node, ast.Constant) and node.value == "0.0.0.0":
            found.append(f"line {node.lineno}: binds every address")
    return found


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_nothing_of_the_never_list(path: Path) -> None:
    assert not problems(ast.parse(path.read_text(encoding="utf-8")))


@pytest.mark.parametrize(
    "code",
    [
        "import pickle", "from joblib import load", "torch.load('x')", "eval('1')", "exec('1')", "os.system('ls')",
        "subprocess.run('ls', shell=True)", "f(trust_remote_code=True)", "try:\n    f()\nexcept:\n    pass",
        "np.load('x', allow_pickle=True)", "yaml.load(x)", "import requests", "host = '0.0.0.0'",
    ],
)  # fmt: skip
def test_the_lint_sees_each_of_them(code: str) -> None:
    assert problems(ast.parse(code))


@pytest.mark.parametrize("path", sorted((PACKAGE / "deploy" / "console").glob("*")), ids=lambda path: path.name)
def test_the_console_brings_nothing_from_outside(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    outside = [line for line in text.splitlines() if "http://" in line or "https://" in line or "//cdn" in line]
    assert not [line for line in outside if "www.w3.org" not in line], outside
    assert "innerHTML" not in text and "eval(" not in text and "document.write" not in text
