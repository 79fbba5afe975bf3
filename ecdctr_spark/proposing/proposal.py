"""`ecdctr init`: from excerpts of raw logs to a proposed configuration. Pure.

Each proposal is a guess with its evidence. A guess that names and values agree on is sure; one that they leave open is
marked, to be checked; and where they name nothing, or several things that fit as well, nothing is proposed: a wrong
column would train a wrong model in silence.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from ecdctr_spark.methods.method import Method
from ecdctr_spark.proposing.batches import proposed_batches
from ecdctr_spark.proposing.calendar import proposed_calendar, proposed_units, times_of
from ecdctr_spark.proposing.columns import other_columns, proposed_columns
from ecdctr_spark.proposing.domains import proposed_domains
from ecdctr_spark.proposing.evidence import Guess
from ecdctr_spark.proposing.features import Feature, proposed_features
from ecdctr_spark.proposing.logs import proposed_form, proposed_logs
from ecdctr_spark.settings.sources import LOGS
from ecdctr_spark.sources.excerpts import Excerpt


@dataclass(frozen=True)
class Proposal:
    """What `ecdctr init` writes. Columns are by log and by their name in the raw contract, batches by level."""

    form: Guess
    csv: Mapping[str, Guess]
    logs: Mapping[str, Guess]
    columns: Mapping[str, Mapping[str, Guess]]
    domains: Mapping[str, Guess]
    units: Mapping[str, Guess]
    calendar: Mapping[str, Guess]
    features: Sequence[Feature]
    method: str
    batches: Mapping[str, Guess]
    last_day: dt.date | None
    notes: Sequence[str] = field(default=())

    @property
    def guesses(self) -> dict[str, Guess]:
        """Each guess by its dotted key in the configuration; of a feature there is none."""
        parts: dict[str, Mapping[str, Guess]] = {"source": {"format": self.form, **self.logs, **self.units}}
        parts |= {"source.csv": self.csv}
        parts |= {f"source.columns.{log}": columns for log, columns in self.columns.items()}
        parts |= {"source.domains": self.domains, "calendar": self.calendar}
        named = {f"{above}.{name}": guess for above, part in parts.items() for name, guess in part.items()}
        levels = f"methods.{self.method}.levels"
        return named | {f"{levels}.{level}.train.batch_size": guess for level, guess in self.batches.items()}

    @property
    def open(self) -> list[str]:
        """The keys that must be given by hand."""
        return [key for key, guess in self.guesses.items() if guess.value is None]


def propose(excerpts: Sequence[Excerpt], given: Mapping[str, Excerpt], method: Method) -> Proposal:
    """A configuration for logs of these excerpts. `given` are those that the user has said what they are; `method` is
    the one that a run would carry out.

    Raises ConfigError where no impressions are among them, or they cannot be read with one source.format.
    """
    logs, notes = proposed_logs(excerpts, given)
    places = {one.place: one for one in (*excerpts, *given.values())}
    found = {log: places[guess.value] for log, guess in logs.items() if guess.value is not None}
    form, dialect = proposed_form(found)
    columns: dict[str, dict[str, Guess]] = {}
    for log in LOGS:  # impressions first: the names of the others are compared with theirs
        if log in found:
            columns[log] = proposed_columns(log, found, columns)
    domains = proposed_domains(found, columns)
    times = times_of(found, columns)
    return Proposal(
        form=form,
        csv=dialect,
        logs=logs,
        columns=columns,
        domains=domains,
        units=proposed_units(times),
        calendar=proposed_calendar(found, times),
        features=proposed_features({log: other_columns(log, found[log], columns[log]) for log in found}),
        method=method.name,
        batches=proposed_batches(method, found, columns, domains, times["shown"]),
        last_day=max((time.at.date() for time in times["shown"]), default=None),
        notes=notes,
    )
