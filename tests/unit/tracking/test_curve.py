"""A learning curve is one small SVG."""

from __future__ import annotations

import re

from ecdctr_spark.tracking.curve import learning_curve


def test_each_line_is_drawn_in_the_order_of_rows_within_the_axes() -> None:
    drawn = learning_curve({"loss": [(200.0, 0.5), (100.0, 0.75)], "validation_loss": [(200.0, 0.25)]})
    first, second = re.findall(r'points="([^"]*)"', drawn)
    assert first.startswith("345.0,40.0 620.0,160.0")
    assert second == "620.0,280.0 620.0,280.0"  # a single point is a line to itself, or it would not be seen
    words = re.findall(r"<text[^>]*>([^<]*)<", drawn)
    assert words == ["0.7500", "0.2500", "200 rows", "loss", "validation_loss"]
