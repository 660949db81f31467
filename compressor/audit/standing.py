"""Where systems stand: places under every tie rule, and an audited model among others."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from compressor.audit.ranking import TIES, standings
from compressor.audit.records import AuditResult
from compressor.audit.rules import Rules
from compressor.audit.systems import Table
from compressor.audit.whatif import Step, what_if
from compressor.errors import MeasureError, UsageError

__all__ = ["Standing", "place_model", "places_by_ties", "standing_of"]


@dataclass(frozen=True)
class Standing:
    """One system in a table.

    Attributes:
        name: of the system; of: number of systems in the table, it included.
        place: its place; score: its score; ties: the tie rule of both.
        figures: column -> its figure; ranks: column -> its rank.
        places: tie rule -> its place.
        steps: column -> what that figure alone would have to become for each better place.
    """

    name: str
    of: int
    place: int
    score: float
    ties: str
    figures: Mapping[str, float]
    ranks: Mapping[str, float]
    places: Mapping[str, int]
    steps: Mapping[str, tuple[Step, ...]]

    def to_dict(self) -> dict[str, Any]:
        """Returns plain JSON-able Python."""
        return {
            "name": self.name,
            "of": self.of,
            "place": self.place,
            "score": self.score,
            "ties": self.ties,
            "figures": dict(self.figures),
            "ranks": dict(self.ranks),
            "places_by_ties": dict(self.places),
            "what_if": {
                column: [
                    {
                        "place": step.place,
                        "value": step.value,
                        "beyond": step.beyond,
                        "change": step.change,
                    }
                    for step in steps
                ]
                for column, steps in self.steps.items()
            },
        }


def standing_of(table: Table, index: int, ties: str = "dense") -> Standing:
    """Returns where one system of a table stands, and what would raise it.

    Args:
        table: all systems.
        index: position of the one.
        ties: tie rule, as in `ranking.standings`.

    Raises:
        UnknownNameError: no such tie rule.
    """
    values = table.values()
    found = standings(values, table.criteria, ties)
    columns = [criterion.column for criterion in table.criteria]
    return Standing(
        name=table.names[index],
        of=len(table.names),
        place=int(found.places()[index]),
        score=float(found.scores()[index]),
        ties=ties,
        figures=dict(zip(columns, table.rows[index], strict=True)),
        ranks=dict(zip(columns, (found.ranks2[index] / 2).tolist(), strict=True)),
        places={rule: places[index] for rule, places in places_by_ties(table).items()},
        steps=what_if(values, table.criteria, index, ties),
    )


def places_by_ties(table: Table) -> dict[str, list[int]]:
    """Returns the places of all systems under every tie rule; they differ where it matters."""
    values = table.values()
    return {rule: standings(values, table.criteria, rule).places().tolist() for rule in TIES}


def place_model(
    result: AuditResult, table: Table, rules: Rules, accuracy: float, ties: str = "dense"
) -> Standing:
    """Places an audited model among the systems of a table.

    Args:
        result: of the audit: memory is its parameter bytes, MACs those of the official counter
            (the strict figure where that one does not read the file).
        table: the other systems, under the criteria of `rules`.
        rules: whose ranking it is.
        accuracy: of the model, in the unit of the table.
        ties: tie rule, as in `ranking.standings`.

    Raises:
        UsageError: the accuracy is in another unit than the table's, or the rules rank by a figure
            that an audit and an accuracy do not give.
        MeasureError: the MACs are needed and not known exactly.
    """
    figures = []
    for at, criterion in enumerate(table.criteria):
        if criterion.column == "accuracy":
            _same_unit(accuracy, [row[at] for row in table.rows])
            figures.append(accuracy)
        elif criterion.column == "bytes":
            figures.append(float(result.param_bytes))
        elif criterion.column == "macs":
            figures.append(float(_macs(result)))
        else:
            raise UsageError(
                f"{rules.task} ranks by {rules.ranked_by} ({criterion.column}), which an audit "
                "does not measure: use `compressor rank SYSTEMS.csv --add ... --what-if ...`"
            )
    whole = table.with_row(result.source, figures)
    return standing_of(whole, len(whole.names) - 1, ties)


def _same_unit(accuracy: float, others: list[float]) -> None:
    if others and (accuracy <= 1) != (max(others) <= 1):
        unit = "fractions up to 1" if max(others) <= 1 else "percent"
        raise UsageError(
            f"--accuracy {accuracy:g}: the table holds {unit} (up to {max(others):g}); give the "
            "accuracy in the same unit"
        )


def _macs(result: AuditResult) -> int:
    for convention in ("nessi", "strict"):
        if (macs := result.macs_by_convention.get(convention)) is not None:
            break
    if macs is None or result.statuses["macs"] != "exact":
        raise MeasureError(
            f"{result.source}: its MACs are {result.statuses['macs']}, a place needs them exactly"
        )
    return macs
