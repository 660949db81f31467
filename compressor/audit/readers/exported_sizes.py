"""Sizes of an exported program: plain numbers, or expressions over the open axes of its inputs.

`torch.export` writes an open size as the text of a sympy expression, "Mul(Integer(2), Symbol('s0',
positive=True, integer=True))", with the value it had in the example. The text is parsed as a syntax
tree and evaluated by a table of known functions; nothing of it is executed.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Mapping
from fractions import Fraction
from math import ceil, floor
from typing import Any

__all__ = ["Sizes", "symbol_of"]

MAX_TEXT = 2_000
MAX_VALUE = 1 << 62
MAX_DEPTH = 60


def _product(*values: Fraction) -> Fraction:
    out = Fraction(1)
    for value in values:
        out = _bounded(out * value)
    return out


def _bounded(value: Fraction) -> Fraction:
    if abs(value) > MAX_VALUE or value.denominator > MAX_VALUE:
        raise ValueError("a size out of range")
    return value


def _power(base: Fraction, exponent: Fraction) -> Fraction:
    if exponent.denominator != 1 or abs(exponent) > 62 or (not base and exponent < 0):
        raise ValueError("a power out of range")
    return _bounded(Fraction(base ** int(exponent)))


def _divided(left: Fraction, right: Fraction) -> Fraction:
    if not right:
        raise ValueError("a division by zero")
    return left / right


_FUNCTIONS: Mapping[str, Callable[..., Fraction]] = {
    "Integer": lambda value: value,
    "Rational": _divided,
    "Add": lambda *values: sum(values, Fraction(0)),
    "Mul": _product,
    "Pow": _power,
    "Min": lambda *values: min(values),
    "Max": lambda *values: max(values),
    "Abs": abs,
    "Mod": lambda a, b: a - b * floor(_divided(a, b)),
    "PythonMod": lambda a, b: a - b * floor(_divided(a, b)),
    "FloorDiv": lambda a, b: Fraction(floor(_divided(a, b))),
    "CleanDiv": lambda a, b: Fraction(floor(_divided(a, b))),
    "ModularIndexing": lambda a, b, c: (
        Fraction(floor(_divided(a, b))) - c * floor(_divided(Fraction(floor(_divided(a, b))), c))
    ),
    "IntTrueDiv": _divided,
    "FloatTrueDiv": _divided,
    "floor": lambda value: Fraction(floor(value)),
    "ceiling": lambda value: Fraction(ceil(value)),
    "FloorToInt": lambda value: Fraction(floor(value)),
    "CeilToInt": lambda value: Fraction(ceil(value)),
    "TruncToInt": lambda value: Fraction(int(value)),
    "ToFloat": lambda value: value,
    "Identity": lambda value: value,
}


def symbol_of(text: str) -> str | None:
    """Returns the symbol that an expression consists of alone: 's0' of "Symbol('s0', ...)"."""
    tree = _parsed(text)
    return _symbol(tree) if isinstance(tree, ast.Call) else None


def _parsed(text: str) -> ast.expr:
    if len(text) > MAX_TEXT:
        raise ValueError("an expression of more than 2,000 characters")
    try:
        return ast.parse(text, mode="eval").body
    except (SyntaxError, MemoryError, RecursionError) as error:
        raise ValueError("a size that is no expression") from error


def _symbol(call: ast.Call) -> str | None:
    if isinstance(call.func, ast.Name) and call.func.id in {"Symbol", "Dummy"} and call.args:
        name = call.args[0]
        if isinstance(name, ast.Constant) and isinstance(name.value, str):
            return name.value
    return None


class Sizes:
    """Evaluates sizes under what the open axes were bound to."""

    def __init__(self) -> None:
        """Starts with nothing bound."""
        self.bound: dict[str, int] = {}
        self.from_example: set[str] = set()  # symbols taken from the example of the export
        self._known: dict[str, int] = {}

    def bind(self, symbol: str, value: int) -> None:
        """Sets an open axis, unless it was set before."""
        self.bound.setdefault(symbol, value)

    def of(self, size: Mapping[str, Any]) -> int:
        """Returns a size written as {"as_int": 3} or {"as_expr": {"expr_str", "hint"}}.

        Raises:
            ValueError: neither, or an expression that cannot be evaluated.
        """
        if "as_int" in size:
            return _whole(size["as_int"])
        expression = size["as_expr"]
        text = expression["expr_str"]
        if not isinstance(text, str):
            raise TypeError("an expression that is no text")
        if text in self._known:
            return self._known[text]
        tree = _parsed(text)
        hint = (expression.get("hint") or {}).get("as_int")
        if isinstance(tree, ast.Call) and (symbol := _symbol(tree)) and symbol not in self.bound:
            if hint is None:
                raise ValueError(f"the size {symbol[:40]} depends on the data")
            self.bound[symbol] = _whole(hint)
            self.from_example.add(symbol)
        value = self._value(tree, 0)
        if value.denominator != 1:
            raise ValueError(f"a size of {value}")
        self._known[text] = _whole(int(value))
        return self._known[text]

    def solve(self, text: str, wanted: int) -> bool:
        """Binds the one unbound symbol of an expression that is linear in it; tells whether so."""
        tree = _parsed(text)
        names = {
            name
            for node in ast.walk(tree)
            if isinstance(node, ast.Call) and (name := _symbol(node)) and name not in self.bound
        }
        if len(names) != 1:
            return False
        (name,) = names
        try:
            at = [self._with(tree, name, value) for value in (1, 2)]
            slope = at[1] - at[0]
            value = 1 + (wanted - at[0]) / slope if slope else Fraction(0)
            if (
                value.denominator == 1
                and value > 0
                and self._with(tree, name, int(value)) == wanted
            ):
                self.bound[name] = int(value)
                return True
        except ValueError:
            pass
        return False

    def _with(self, tree: ast.expr, name: str, value: int) -> Fraction:
        self.bound[name] = value
        try:
            return self._value(tree, 0)
        finally:
            del self.bound[name]

    def _value(self, node: ast.expr, depth: int) -> Fraction:
        if depth > MAX_DEPTH:
            raise ValueError("an expression nested too deeply")
        if isinstance(node, ast.Constant) and type(node.value) is int:
            return _bounded(Fraction(node.value))
        if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
            return -self._value(node.operand, depth + 1)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            symbol = _symbol(node)
            if symbol is not None:
                if symbol not in self.bound:
                    raise ValueError(f"the size {symbol[:40]} depends on the data")
                return Fraction(self.bound[symbol])
            function = _FUNCTIONS.get(node.func.id)
            if function is not None and node.args:
                return _bounded(function(*(self._value(arg, depth + 1) for arg in node.args)))
        raise ValueError("a size by an unknown function")


def _whole(value: object) -> int:
    if type(value) is not int or not 0 <= value <= MAX_VALUE:
        raise ValueError("a size out of range")
    return value
