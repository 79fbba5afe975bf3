"""Looking up rows of several tables at the ranks that own them: one exchange asks for all of them, one answers.

What a small message costs does not depend on its length, and a batch reads more than one table: the embedding and, in a
network with a memory, the vectors of its users and items. So each rank sends every other one question and one answer
for all tables of a batch:

- a question is how many rows it asks for of each table but the last, then the rows of each table in turn;
- an answer is the vectors of these rows, table after table.

Which rows a batch reads does not depend on weights. So a look-up may begin before the step of the batch before it, and
the answers are those of the tables after that step.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from ecdctr_spark.models.exchange import Exchange
from ecdctr_spark.models.groups import Groups, gather, group

_Splits = Sequence[Sequence[int]]  # by table and rank


class Table(Protocol):
    """Vectors of `rows` rows. Row r lives on rank r % size as local row r // size; `weight` [local rows, dimension] is
    this rank's share."""

    rows: int
    dimension: int
    weight: Tensor
    exchange: Exchange

    def __call__(self, rows: Tensor, answer: Answer | None = None) -> Tensor:
        """The vectors of rows, from the answer to a look-up of them."""


class Wanted(NamedTuple):
    """Rows that a batch reads of a table: integers [N] in 0..table.rows-1, which may repeat."""

    table: Table
    rows: Tensor


class Route(NamedTuple):
    """How the vectors of a batch travelled between ranks, for their gradients to take the way back.

    `groups` are the batch's positions by distinct row; `splits[q]` of the distinct rows were asked of rank q. `asked`
    [n] are the local rows that all ranks asked of this one, `answers[q]` of them by rank q.
    """

    groups: Groups
    splits: list[int]
    asked: Tensor
    answers: list[int]


class Answer(NamedTuple):
    """The vectors [G, dimension] of the distinct rows that were wanted of a table, and how they travelled."""

    vectors: Tensor
    route: Route


class LookUp:
    """The look-up of what is `wanted` of tables that the same ranks share, begun when it is made.

    All ranks make the same ones in the same order, of the same tables. One rank asks nobody.
    """

    def __init__(self, wanted: Sequence[Wanted]) -> None:
        self.wanted = wanted
        self._exchange = wanted[0].table.exchange
        if self._exchange.size > 1:
            self._questions = [_question(*each) for each in wanted]
            self._arrival = self._exchange.all_to_all(*_asking(self._questions))

    def answers(self) -> list[Answer | None]:
        """Of each of `wanted`, from the tables as they are now; None on one rank, which has all rows itself. All ranks
        call it together, once."""
        if self._exchange.size == 1:
            return [None] * len(self.wanted)
        tables = [table for table, _ in self.wanted]
        asked = _read(*self._arrival(), len(tables))
        routes = [
            Route(question.groups, question.splits, *rows)
            for question, rows in zip(self._questions, asked, strict=True)
        ]
        mine = [gather(table.weight, route.asked) for table, route in zip(tables, routes, strict=True)]
        widths = [table.dimension for table in tables]
        sent, coming = [route.answers for route in routes], [route.splits for route in routes]
        arrival = self._exchange.all_to_all(_packed(mine, sent), _lengths(sent, widths), _lengths(coming, widths))
        vectors = _unpacked(arrival()[0], coming, widths)
        return [Answer(*each) for each in zip(vectors, routes, strict=True)]


class _Question(NamedTuple):
    """What is asked of a table: see Route. `rows` [G] are the distinct ones as their owners number them, by owner."""

    groups: Groups
    splits: list[int]
    rows: Tensor


def _question(table: Table, rows: Tensor) -> _Question:
    size = table.exchange.size
    share = math.ceil(table.rows / size)
    keys = rows.to(torch.int32)  # sorts in half the time of int64
    groups = group(keys % size * share + keys // size)  # by owner, then by local row
    owners = torch.bincount(groups.distinct // share, minlength=size)
    return _Question(groups, owners.tolist(), groups.distinct % share)


def _asking(questions: Sequence[_Question]) -> tuple[Tensor, list[int]]:
    """The messages that ask every rank, one after the other, and the length of each."""
    first, *_ = questions
    counts = list(zip(*(question.splits for question in questions[:-1]), strict=True)) or [()] * len(first.splits)
    heads = torch.tensor(counts, dtype=first.rows.dtype, device=first.rows.device).flatten()
    splits = [[len(questions) - 1] * len(first.splits), *(question.splits for question in questions)]
    return _packed([heads, *(question.rows for question in questions)], splits), _lengths(splits, [1] * len(splits))


def _read(messages: Tensor, lengths: list[int], tables: int) -> list[tuple[Tensor, list[int]]]:
    """Of each table the local rows [n] that all ranks ask of this one, and how many of them each rank: from what
    `_asking` made."""
    named = tables - 1
    heads = torch.stack([message[:named] for message in torch.split(messages, lengths)]).tolist()
    rests = [length - named - sum(head) for length, head in zip(lengths, heads, strict=True)]
    splits = [[named] * len(lengths), *(list(each) for each in zip(*heads, strict=True)), rests]
    _, *rows = _unpacked(messages, splits, [1] * len(splits))
    return list(zip((each.view(-1) for each in rows), splits[1:], strict=True))


def _packed(tensors: Sequence[Tensor], splits: _Splits) -> Tensor:
    """Messages to all ranks, one after the other: the values for a rank are its `splits` of the rows of each tensor."""
    if len(tensors) == 1:
        return tensors[0].reshape(-1)  # as it lies: a copy would be of megabytes
    pieces = [torch.split(tensor, list(each)) for tensor, each in zip(tensors, splits, strict=True)]
    return torch.cat([piece.reshape(-1) for of_rank in zip(*pieces, strict=True) for piece in of_rank])


def _unpacked(messages: Tensor, splits: _Splits, widths: Sequence[int]) -> list[Tensor]:
    """The tensors [N, width] of `_packed`, from the messages of all ranks."""
    if len(widths) == 1:
        return [messages.view(-1, widths[0])]
    by_rank = zip(*splits, strict=True)
    lengths = [rows * width for each in by_rank for rows, width in zip(each, widths, strict=True)]
    pieces = torch.split(messages, lengths)
    return [torch.cat(pieces[place :: len(widths)]).view(-1, width) for place, width in enumerate(widths)]


def _lengths(splits: _Splits, widths: Sequence[int]) -> list[int]:
    """The number of values of each rank's message."""
    by_rank = zip(*splits, strict=True)
    return [sum(rows * width for rows, width in zip(each, widths, strict=True)) for each in by_rank]
