"""The reason of a setting is the comment at its key."""

from __future__ import annotations

from ecdctr_spark.reference.reasons import reasons

TEXT = """\
# Of the file, and of no key.

source:
  kind: files        # an entry of SOURCES
  quote: '"#"'       # around fields
                     # that hold delimiters
  folder: null
  # By name.
  # One each.
  fields:
    tab: {kind: id}  # of the app
limits:              # wide: they catch
  rate: {low: 0.1, high: 0.9}
starts:
  - how: from
    include: ["*"]   # what is taken over
"""


def test_a_comment_belongs_to_the_key_on_its_line_or_below_it() -> None:
    assert reasons(TEXT) == {
        ("source", "kind"): "an entry of SOURCES",
        ("source", "quote"): "around fields that hold delimiters",
        ("source", "fields"): "By name. One each.",
        ("source", "fields", "tab"): "of the app",
        ("limits",): "wide: they catch",
        ("starts", "[]", "include"): "what is taken over",
    }


def test_a_file_without_settings_has_no_reasons() -> None:
    assert reasons("# nothing yet\n") == {}
