"""A quote that is not closed is found, and where; whatever a field may hold otherwise is let through."""

from __future__ import annotations

import csv
import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ecdctr_spark.settings.sources import Csv
from ecdctr_spark.sources.csv_lines import Shape, Unclosed, shape

BACKSLASH = Csv(escape="\\")


def shape_of(text: str, dialect: Csv | None = None, columns: int = 3) -> Shape:
    return shape(io.StringIO(text), dialect or Csv(), columns)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", (0, False)),
        ("1,2,3\n4,5,6\n", (2, False)),
        ("1,2,3\n\n   \n4,5,6", (2, False)),
        ('1,"two, or more",3\n"","""quoted""",6\n', (2, False)),
        ('1,"two\n\nlines",3\n4,5,6\n', (2, True)),
        ('1,2,"a ""b""\n,c"\n4,5,6', (2, True)),
        ('1,5" screen,3\n4,a "b" c,6\n', (2, False)),  # a quote within a field that is not quoted is a character
        ('1,"two"  ,3\n', (1, False)),
        ("1,2\n1,2,3,4\n", (2, False)),  # the number of fields is Spark's to judge
        ('1,"two\nlines"\n', (1, True)),
    ],
)
def test_records_are_counted_and_those_over_several_lines_found(text: str, expected: tuple[int, bool]) -> None:
    assert shape_of(text) == expected


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ('1,2,3\n4,5,"six\n7,8,9\n', 2),  # to the end of the file, in the last column
        ('1,"two,3\n4,5,6\n', 1),
        ('1,"b,c\n1,2,3\n4,"x",6\n', 1),  # closed by accident, by the quote that opens a later field
        ('1,2,3\n1,"b,c\n1,2,3\n4,",x",6\n', 2),  # likewise, where a delimiter follows
        ('1,"two\nlines",3\n4,"five,6\n7,8,9\n', 3),  # after a legitimate newline
        ('1,"two"x,3\n', 1),
        ('1,2,"5 inch\n1,2,"6 inch\n', 1),
        ('"1,2,3', 1),
        ('1,2,"', 1),
    ],
)
def test_a_quote_that_is_not_closed_is_found_at_the_line_that_opens_it(text: str, line: int) -> None:
    with pytest.raises(Unclosed) as error:
        shape_of(text)
    assert error.value.line == line


def test_lines_are_counted_from_those_before() -> None:
    with pytest.raises(Unclosed) as error:
        shape(io.StringIO('1,"2'), Csv(), 2, before=10)
    assert error.value.line == 11


@pytest.mark.parametrize("text", ['1,"a \\"b\\", c",3\n', '1,"a\\\\",3\n', '1,"",3\n', "1,a\\,3\n"])
def test_a_backslash_may_be_the_escape(text: str) -> None:
    assert shape_of(text, BACKSLASH) == (1, False)


def test_a_backslash_before_the_closing_quote_leaves_it_open() -> None:
    with pytest.raises(Unclosed):
        shape_of('1,"a\\",3\n4,5,6\n', BACKSLASH)


def test_files_that_do_not_quote_have_no_quote_to_close() -> None:
    assert shape_of('1,"two,3\n4,5,"6\n', Csv(quote=None)) == (2, False)


@pytest.mark.parametrize("delimiter", ["\t", ";", "|", "\x01", " "])
def test_any_character_may_delimit(delimiter: str) -> None:
    text = f'1{delimiter}"a {delimiter} b"{delimiter}\n1{delimiter}"two{delimiter}3\n'
    with pytest.raises(Unclosed) as error:
        shape_of(text, Csv(delimiter=delimiter))
    assert error.value.line == 2


FIELDS = st.text(alphabet='ab,"\n \\;', max_size=6)


@given(st.lists(st.lists(FIELDS, min_size=3, max_size=3), max_size=6), st.sampled_from(["\\", '"']))
def test_what_a_strict_writer_writes_is_let_through(rows: list[list[str]], escape: str) -> None:
    written = io.StringIO()
    doubled = escape == '"'
    writer = csv.writer(written, quoting=csv.QUOTE_ALL, doublequote=doubled, escapechar=None if doubled else escape)
    writer.writerows(rows)
    lines = io.StringIO(written.getvalue().replace("\r\n", "\n"))
    assert shape(lines, Csv(escape=escape), 3).records == len(rows)


@given(
    st.lists(st.lists(st.text(alphabet="ab ", max_size=3), min_size=3, max_size=3), min_size=1, max_size=5), st.data()
)
def test_one_quote_too_few_is_always_found(rows: list[list[str]], data: st.DataObject) -> None:
    row, column = data.draw(st.integers(0, len(rows) - 1)), data.draw(st.integers(0, 2))
    lines = [",".join(f'"{field}"' for field in fields) + "\n" for fields in rows]
    fields = [f'"{field}"' for field in rows[row]]
    lines[row] = ",".join([*fields[:column], fields[column][:-1], *fields[column + 1 :]]) + "\n"
    with pytest.raises(Unclosed) as error:
        shape(iter(lines), Csv(), 3)
    assert error.value.line == row + 1
