"""The lines of a csv file, looked at for quotes that are not closed: a reader takes the rows after one as its text.

Pure, and strict where Spark is lenient: after a closing quote only a delimiter or the end of the line may come, or else
the quote that was meant to open a field has closed one that was left open.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import NamedTuple

from ecdctr_spark.settings.sources import Csv


class Shape(NamedTuple):
    """The number of records, and whether one of them spans several lines."""

    records: int
    spans_lines: bool


class Unclosed(ValueError):
    """A quoted field that is not closed, or not properly."""

    def __init__(self, line: int) -> None:
        super().__init__(f"line {line}")
        self.line = line


def shape(lines: Iterable[str], csv: Csv, columns: int, before: int = 0) -> Shape:
    """The shape of lines that each end in a newline; blank ones are no records. `before` lines came before them.

    Raises Unclosed with the number of the line where the field was opened.
    """
    if csv.quote is None:
        return Shape(sum(not line.isspace() for line in lines), False)
    grammar = _Grammar(csv.delimiter, csv.quote, csv.escape)
    quote, complete = csv.quote, grammar.complete
    records, spans, opened = 0, False, None
    fields, swallowed = 1, False  # of a record that spans lines: the fields so far, whether a line looks like a row
    for number, line in enumerate(lines, before + 1):
        if opened is None and (quote not in line or complete(line)):
            records += not line.isspace()
            continue
        continued = opened is not None
        opened, fields = grammar.end(line, number, opened, fields if continued else 1)
        swallowed = continued and (swallowed or line.count(csv.delimiter) >= columns - 1)
        if opened is None:
            records, spans = records + 1, spans or continued
            if swallowed and fields != columns:
                raise Unclosed(grammar.last_opened)
    if opened is not None:
        raise Unclosed(opened)
    return Shape(records, spans)


class _Grammar:
    """The quoting rules of a dialect."""

    def __init__(self, delimiter: str, quote: str, escape: str) -> None:
        d, q, e = re.escape(delimiter), re.escape(quote), re.escape(escape)
        inside = f"[^{q}]*(?:{q}{q}[^{q}]*)*" if escape == quote else f"[^{q}{e}]*(?:{e}.[^{q}{e}]*)*"
        field = f"(?:[^{q}]*{d})?{q}{inside}{q}[ \\t]*(?={d}|\\n|\\Z)"  # one that is quoted, and those before it
        self.delimiter, self.quote, self.last_opened = delimiter, quote, 0
        self.complete = re.compile(f"(?:{field})*[^{q}]*", re.DOTALL).fullmatch
        self._inside = re.compile(inside, re.DOTALL)
        self._closing = re.compile(f"{q}[ \\t]*?({d}|\\n?\\Z)")

    def end(self, line: str, number: int, opened: int | None, fields: int) -> tuple[int | None, int]:
        """The line that opened the field in which this line ends, None if it ends the record; and the fields so far."""
        position = 0
        while True:
            if opened is None and line.startswith(self.quote, position):
                opened, position = number, position + 1
            if opened is None:
                end = line.find(self.delimiter, position)
                if end < 0:
                    return None, fields
                position, fields = end + 1, fields + 1
                continue
            self.last_opened = opened
            rest = self._inside.match(line, position)
            position = rest.end() if rest else position
            if position == len(line):
                return opened, fields
            closed = self._closing.match(line, position)
            if closed is None:
                raise Unclosed(opened)
            opened, position = None, closed.end()
            if closed.group(1) != self.delimiter:
                return None, fields
            fields += 1
