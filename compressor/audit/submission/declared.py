"""What a meta.yaml declares, as numbers with units, held against what was measured."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation

from compressor.audit.records import AuditResult

__all__ = ["FIELDS", "Measured", "Quantity", "matches", "measured", "parse_quantity", "shown"]

# field of system.complexity -> which figure it is about
FIELDS: Mapping[str, str] = {
    "total_parameters": "params",
    "total_parameters_non_zero": "nonzero_params",
    "model_size": "nonzero_bytes",
    "memory_use": "param_bytes",
    "total_model_size": "param_bytes",
    "macs": "macs",
}
UNITS: Mapping[str, str] = {
    "params": "parameters",
    "nonzero_params": "parameters",
    "nonzero_bytes": "B",
    "param_bytes": "B",
    "macs": "MACs",
}

_BYTES: Mapping[str, tuple[int, ...]] = {
    "": (1, 1000, 1024),  # the templates ask for bare numbers, some of bytes, some of kB
    "b": (1,),
    "byte": (1,),
    "bytes": (1,),
    "kb": (1000, 1024),  # both are meant in the field
    "kbyte": (1000, 1024),
    "kbytes": (1000, 1024),
    "kib": (1024,),
    "mb": (1_000_000, 1 << 20),
    "mib": (1 << 20,),
}
_COUNTS: Mapping[str, tuple[int, ...]] = {
    "": (1,),
    "k": (1000,),
    "m": (1_000_000,),
    "million": (1_000_000,),
    "g": (1_000_000_000,),
}
_NUMBER = re.compile(
    r"([+-]?(?:\d{1,3}(?:[,'\u2019 \u00a0\u202f]\d{3})+|\d[\d_]*)?(?:\.\d*)?(?:[eE][+-]?\d{1,3})?)"
    r"\s*([^\d\s].*)?"
)


@dataclass(frozen=True, slots=True)
class Quantity:
    """A declared number.

    Attributes:
        number: as written; factors: what it may have to be multiplied with to be in plain units.
        bare: no unit stood beside it.
    """

    number: Decimal
    factors: tuple[int, ...]
    bare: bool

    @property
    def step(self) -> Decimal:
        """One unit of the last digit that was written: 46.5 has the step 0.1."""
        exponent = self.number.as_tuple().exponent
        assert isinstance(exponent, int)  # finite by construction
        return Decimal(1).scaleb(exponent)

    @property
    def least(self) -> Decimal:
        """The smallest plain number it can stand for."""
        return self.number * min(self.factors)


@dataclass(frozen=True, slots=True)
class Measured:
    """One measured figure under every reading that a declaration may follow.

    Attributes:
        readings: convention -> value, the year's official one first; empty where unknown.
        unit: of the values.
    """

    readings: Mapping[str, int]
    unit: str


def parse_quantity(raw: str, figure: str) -> Quantity | str:
    """Reads a declared number.

    Args:
        raw: as it stands in the file: 46512, "46.5 kB", "29,419,156", "29.4 M", 2.9e7.
        figure: a value of `FIELDS`: which units are allowed.

    Returns:
        The quantity, or what is wrong with it.
    """
    found = _NUMBER.fullmatch(raw.strip())
    digits = found[1] if found else ""
    if found is None or not any(char.isdigit() for char in digits):
        return "is not a number"
    try:
        number = Decimal(re.sub(r"[,'\u2019 \u00a0\u202f_]", "", digits))
    except InvalidOperation:
        return "is not a number"
    if not number.is_finite() or number < 0 or number.adjusted() > 18:
        return "is not a number of 0 or more"
    unit = (found[2] or "").strip().lower().rstrip(".")
    if figure.endswith("bytes"):
        table = _BYTES
    else:
        table = _COUNTS
        unit = re.sub(r"\s*-?(macs?|ops|params?|parameters?)$", "", unit)
        unit = {"mm": "m"}.get(unit, unit)  # "29 MMACs" has lost its "MACs" above
    if unit not in table:
        allowed = ", ".join(
            {"b": "B", "kb": "kB", "kib": "KiB", "k": "k", "m": "M"}[u]
            for u in (("b", "kb", "kib") if table is _BYTES else ("k", "m"))
        )
        return f"has the unit {unit[:20]!a}, allowed none or {allowed}"
    factors = table[unit]
    if figure == "nonzero_bytes" and not unit:
        factors = (1024, 1000)  # the templates of 2020 and 2021: "model_size", in KB
    return Quantity(number, factors, bare=not unit)


def measured(results: Sequence[AuditResult], figure: str, year: int, *, total: bool) -> Measured:
    """Gathers one figure over the models of a system.

    Args:
        results: of the audit, one a model.
        figure: a value of `FIELDS`.
        year: the challenge year: its official way to count stands first.
        total: add the models up (an ensemble); else take the largest (one model a split or device).
    """
    tables = [_readings(result, figure, year) for result in results]
    shared = [name for name in tables[0] if all(name in table for table in tables)]
    combine = sum if total else max
    return Measured({n: combine(table[n] for table in tables) for n in shared}, UNITS[figure])


def _readings(result: AuditResult, figure: str, year: int) -> dict[str, int]:
    """Every way to count that the year's sources allow, without doubles."""
    official = {2020: ("keras-2020", "strict", "keras-2021"), 2021: ("keras-2021", "strict")}
    order = official.get(year, ("nessi", "strict"))
    if figure == "param_bytes":
        return {"strict": result.param_bytes}
    tables: Mapping[str, Mapping[str, int | None]] = {
        "params": result.params_by_convention,
        "nonzero_params": result.nonzero_by_convention,
        "nonzero_bytes": result.bytes_by_convention,
        "macs": result.macs_by_convention,
    }
    # a counter of the TFLite baselines, where the audit offers it
    names = (*order, *(name for name in ("nessi-tflite",) if year in {2022, 2023}))
    found = {name: tables[figure].get(name) for name in names}
    return {name: value for name, value in found.items() if value is not None}


def matches(quantity: Quantity, values: Iterable[int], tolerance: float = 0.0) -> int | None:
    """Finds the measured value that a declaration stands for.

    A number given with fewer digits than the measured one has (46.5 kB for 46,512 B) matches when
    it is the measured one rounded or cut to those digits; a whole number of units must be exact.

    Args:
        quantity: as declared.
        values: measured, in plain units.
        tolerance: relative difference that is allowed beyond that.

    Returns:
        The value it matches; None where it matches none.
    """
    for value in values:
        for factor in quantity.factors:
            scaled = Decimal(value) / factor
            off = abs(scaled - quantity.number)
            whole = scaled == scaled.to_integral_value() and quantity.step == 1
            rounded = not whole and quantity.step <= quantity.number and off < quantity.step
            if off == 0 or rounded:
                return value
            if off <= abs(scaled) * Decimal(str(tolerance)):
                return value
    return None


def shown(value: int, raw_unit: str) -> str:
    """A measured value for a message: 46,512 B (46.512 kB)."""
    if raw_unit == "B" and value >= 1000:
        return f"{value:,} B ({value / 1000:,.3f} kB, {value / 1024:,.2f} KiB)"
    return f"{value:,} {raw_unit}"
