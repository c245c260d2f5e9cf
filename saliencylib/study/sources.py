"""What a piece of the library's code depends on: its modules, followed through imports, as one fingerprint.

Kept results and finished notebooks go stale when this changes, and only then.
"""

import ast
import functools
import hashlib
import re
from collections.abc import Iterable
from pathlib import Path

from saliencylib.places import ROOT

# What may change without making a kept result stale, beside comments: whole packages, docstrings, the texts
# that these calls (or a raise) are given, and the words about data sets (their content counts as arguments).
LEFT_OUT_PACKAGES = ("saliencylib.study",)
LEFT_OUT_TEXTS = ("print", "warn")
LEFT_OUT_FILES = ("datasets.toml",)


@functools.cache
def code_of(module: str, left_out: tuple[str, ...] = LEFT_OUT_PACKAGES) -> str:
    """16 hexadecimal digits of a library module and of all that it imports from the library.

    Comments, docstrings and texts of messages do not count, nor do the packages (or modules) ``left_out``; a
    data file does that a module names and that lies beside it.
    """
    return code_of_text(f"import {module}", left_out)


def code_of_text(text: str, left_out: tuple[str, ...] = LEFT_OUT_PACKAGES) -> str:
    """The same of the library modules behind a piece of Python, such as a notebook's code."""
    sha = hashlib.sha256()
    for name in sorted(modules_behind(imported(text), left_out)):
        sha.update(f"{name} {_own_code(_source(name))}|".encode())
    return sha.hexdigest()[:16]


def modules_behind(modules: Iterable[str], left_out: tuple[str, ...] = LEFT_OUT_PACKAGES) -> set[str]:
    """The library modules (dotted names) that some modules are or import, directly or through one another."""
    found: set[str] = set()
    waiting = list(modules)
    while waiting:
        name = waiting.pop()
        if name not in found and not _within(name, left_out) and _source(name):
            found.add(name)
            waiting += imported(_source(name).read_text(encoding="utf-8"))
    return found


def _within(module: str, packages: tuple[str, ...]) -> bool:
    return any(module == package or module.startswith(f"{package}.") for package in packages)


def imported(text: str) -> list[str]:
    """The library modules (dotted names) that a piece of Python imports itself.

    A name that a package offers lazily stands for the module that it comes from, a package for all that it
    offers.
    """
    found = []
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names if alias.name.split(".")[0] == "saliencylib"]
            found += [inner for name in names for inner in (name, *_offered(name).values())]
        elif isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "saliencylib":
            offered = _offered(node.module)
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                whole = [inner, *_offered(inner).values()]
                found += whole if _source(inner) else [offered.get(alias.name, node.module)]
    return found


def _source(module: str) -> Path | None:
    """The file of a library module or package, if there is one."""
    place = ROOT.joinpath(*module.split("."))
    return next((p for p in (place.with_suffix(".py"), place / "__init__.py") if p.is_file()), None)


def _offered(package: str) -> dict[str, str]:
    """The names that a package offers lazily, each with its module."""
    source = _source(package)
    if source is None or source.name != "__init__.py":
        return {}
    for node in ast.parse(source.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == "NAMES":
            return ast.literal_eval(node.value)
    return {}


def _own_code(source: Path) -> str:
    """16 hexadecimal digits of a module's own syntax tree, and of the data files that it names."""
    text = source.read_text(encoding="utf-8")
    named = sorted(set(re.findall(r"""["']([\w.-]+\.(?:csv|toml|mplstyle|safetensors))["']""", text)))
    files = [source.with_name(name) for name in named if name not in LEFT_OUT_FILES]
    return _digest_of(text, *(path.read_bytes() for path in files if path.is_file()))


@functools.cache
def _digest_of(text: str, *contents: bytes) -> str:
    sha = hashlib.sha256(_written(_Silenced().visit(ast.parse(text))).encode())
    for content in contents:
        sha.update(content)
    return sha.hexdigest()[:16]


def _written(part: object) -> str:
    """A syntax tree as text, without empty fields: which of these there are differs between Pythons."""
    if isinstance(part, ast.AST):
        fields = [(name, getattr(part, name, None)) for name in part._fields]
        inner = ", ".join(f"{name}={_written(v)}" for name, v in fields if v is not None and v != [])
        return f"{type(part).__name__}({inner})"
    if isinstance(part, list):
        return f"[{', '.join(map(_written, part))}]"
    return repr(part)


class _Silenced(ast.NodeTransformer):
    """Takes docstrings and the texts of messages out of a syntax tree."""

    def _without_docstring(self, node: ast.AST) -> ast.AST:
        self.generic_visit(node)
        if ast.get_docstring(node, clean=False) is not None:
            node.body = node.body[1:] or [ast.Pass()]
        return node

    visit_Module = visit_ClassDef = visit_FunctionDef = visit_AsyncFunctionDef = _without_docstring

    def visit_Raise(self, node: ast.Raise) -> ast.AST:
        if isinstance(node.exc, ast.Call):
            node.exc = ast.Call(node.exc.func, [], [])
        return node

    def visit_Expr(self, node: ast.Expr) -> ast.AST:
        self.generic_visit(node)
        called = node.value.func if isinstance(node.value, ast.Call) else None
        if called is not None and getattr(called, "id", getattr(called, "attr", "")) in LEFT_OUT_TEXTS:
            node.value = ast.Call(called, [], [])
        return node
