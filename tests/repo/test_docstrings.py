"""Every public name of the library says what it does, and every parameter of it has a `:param name:` line."""

from __future__ import annotations

import ast
import re
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOMS = ("classic", "cos", "exports", "images", "provider")
# A docstring may point to the one that holds the parameters instead of repeating them.
REFERENCE = re.compile(r"parameters as for|(?:see|those of) :(?:meth|class|func):", re.IGNORECASE)
PARAM = re.compile(r":param\s+(?:[\w\[\], .|]+\s)?(\w+):")

Function = ast.FunctionDef | ast.AsyncFunctionDef


def _decorators(node: Function | ast.ClassDef) -> set[str]:
    """The last word of each decorator's name: `functools.cached_property` and `x.setter` give the words at the end."""
    words = set()
    for decorator in node.decorator_list:
        target = decorator.func if isinstance(decorator, ast.Call) else decorator
        words.add(target.attr if isinstance(target, ast.Attribute) else ast.unparse(target))
    return words


def _is_protocol(node: ast.ClassDef) -> bool:
    return any(ast.unparse(base).split("[")[0].split(".")[-1] == "Protocol" for base in node.bases)


def _has_no_code(node: Function) -> bool:
    """The body is `...`, with or without a docstring before it."""
    body = node.body[1:] if ast.get_docstring(node) is not None else node.body
    return all(isinstance(part, ast.Expr) and getattr(part.value, "value", None) is Ellipsis for part in body)


def _parameters(node: Function, *, method: bool) -> list[str]:
    """The names a caller may pass, without self or cls, *args and **kwargs."""
    names = [argument.arg for argument in (*node.args.posonlyargs, *node.args.args)]
    if method and "staticmethod" not in _decorators(node):
        names = names[1:]
    return [name for name in (*names, *(argument.arg for argument in node.args.kwonlyargs)) if name[0] != "_"]


def _missing(node: Function, text: str, *, method: bool) -> list[str]:
    if REFERENCE.search(text):
        return []
    named = set(PARAM.findall(text))
    return [name for name in _parameters(node, method=method) if name not in named]


def _gaps_of_function(node: Function, owner: str, extra: str = "", *, method: bool) -> Iterator[str]:
    words = _decorators(node)
    if words & {"overload", "setter", "deleter"}:
        return
    text = ast.get_docstring(node) or ""
    if not text and not extra:
        yield f"{node.lineno}: {owner}{node.name} has no docstring"
    elif not words & {"property", "cached_property"}:
        missing = _missing(node, f"{extra}\n{text}", method=method)
        if missing:
            yield f"{node.lineno}: {owner}{node.name} does not name {', '.join(missing)} with `:param`"


def _gaps_of_class(node: ast.ClassDef, owner: str) -> Iterator[str]:
    name = f"{owner}{node.name}"
    about = ast.get_docstring(node) or ""
    if not about:
        yield f"{node.lineno}: {name} has no docstring"
    for part in node.body:
        if isinstance(part, ast.ClassDef) and not part.name.startswith("_"):
            yield from _gaps_of_class(part, f"{name}.")
        elif isinstance(part, Function) and not (_is_protocol(node) and _has_no_code(part)):
            if part.name == "__init__":
                # What the constructor takes may be said by the class; a class without a word is counted above.
                yield from _gaps_of_function(part, f"{name}.", about or "-", method=True)
            elif not part.name.startswith("_"):
                yield from _gaps_of_function(part, f"{name}.", method=True)


def gaps(source: str) -> list[str]:
    """What the public names of a module leave unsaid, one line each."""
    found: list[str] = []
    for node in ast.parse(source).body:
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
            found += _gaps_of_class(node, "")
        elif isinstance(node, Function) and not node.name.startswith("_"):
            found += _gaps_of_function(node, "", method=False)
    return found


@pytest.mark.parametrize("room", ROOMS)
def test_public_names_are_described(room: str, project_root: Path) -> None:
    package = project_root / "include/sealift"
    modules = sorted(path for path in (package / room).rglob("*.py") if "node_modules" not in path.parts)
    assert len(modules) > 5
    found = [f"{module.relative_to(project_root)}:{gap}" for module in modules for gap in gaps(module.read_text())]
    assert not found, f"{len(found)} gaps:\n" + "\n".join(found)


WHOLE = '''
class Box:
    """A box.

    :param size: in bytes.
    """

    width: int

    def __init__(self, *, size: int) -> None:
        self._size = size

    def put(self, thing: str, *rest: str, **more: str) -> None:
        """Put a thing into it.

        :param thing: which one.
        """

    @property
    def size(self) -> int:
        """In bytes."""
        return self._size

    def _hidden(self, thing: str) -> None: ...


class Port(Protocol):
    """What a box can do."""

    def put(self, thing: str) -> None: ...


async def fill(box: Box, level: int) -> None:
    """Fill it; parameters as for :func:`empty`."""


def _hidden(box: Box) -> None: ...
'''


def test_a_module_that_says_everything_has_no_gap() -> None:
    assert gaps(WHOLE) == []


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("def f() -> None: ...", "1: f has no docstring"),
        ("async def f() -> None: ...", "1: f has no docstring"),
        ("class C:\n    x: int", "1: C has no docstring"),
        ('def f(a, *, b):\n    """Do it.\n\n    :param a: x.\n    """', "1: f does not name b with `:param`"),
        ('class C:\n    """C."""\n    def m(self, a): ...', "3: C.m has no docstring"),
        ('class C:\n    """C."""\n    def m(self, a):\n        """M."""', "3: C.m does not name a with `:param`"),
        (
            'class C:\n    """C."""\n    @staticmethod\n    def m(a):\n        """M."""',
            "4: C.m does not name a with `:param`",
        ),
        (
            'class C:\n    """C."""\n    def __init__(self, a):\n        self.a = a',
            "3: C.__init__ does not name a with `:param`",
        ),
        ('class C:\n    """C."""\n    @property\n    def p(self):\n        return 1', "4: C.p has no docstring"),
        (
            'class P(Protocol):\n    """P."""\n    def m(self, a):\n        return a',
            "3: P.m has no docstring",
        ),
    ],
)
def test_a_gap_is_found(source: str, expected: str) -> None:
    assert gaps(textwrap.dedent(source)) == [expected]
