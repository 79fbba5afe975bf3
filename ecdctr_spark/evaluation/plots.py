"""The report's plots: each a plotly figure from rows of a table."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import plotly.graph_objects as go

Rows = Sequence[Mapping[str, Any]]

NAMES = {"tpm": "TPM", "cpm": "CPM", "actr": "A-CTR", "ads_only": "ads-only"}
_COLOURS = {"tpm": "#8250df", "cpm": "#1a7f37", "actr": "#0969da", "ads_only": "#bc4c00"}


def gauc_by_day(days: Rows) -> go.Figure:
    """A line a model from rows of METRICS, one a (date, model)."""
    figure = go.Figure()
    for model, rows in _by(days, "model"):
        figure.add_scatter(
            x=[str(row["date"]) for row in rows],
            y=[row["gauc"] for row in rows],
            mode="lines+markers",
            name=named(model),
            line={"color": _colour(model), "width": 2.5},
            marker={"size": 8},
            hovertemplate="%{x}: %{y:.4f}",
        )
    figure.update_yaxes(title="GAUC")
    figure.update_xaxes(type="category", categoryorder="category ascending")
    return _styled(figure, 340)


def calibration(reliability: Rows) -> go.Figure:
    """Observed against predicted click rate of each bin of `calibration.reliability`, and the diagonal."""
    figure = go.Figure()
    reach = 1.05 * max((max(row["prediction"], row["click_rate"]) for row in reliability), default=1.0)
    diagonal = {"color": "#8c959f", "width": 1.5, "dash": "dash"}
    figure.add_scatter(x=[0, reach], y=[0, reach], mode="lines", name="perfect", line=diagonal, hoverinfo="skip")
    for model, rows in _by(reliability, "model"):
        figure.add_scatter(
            x=[row["prediction"] for row in rows],
            y=[row["click_rate"] for row in rows],
            customdata=[row["impressions"] for row in rows],
            mode="lines+markers",
            name=named(model),
            line={"color": _colour(model), "width": 2},
            marker={"size": 8},
            hovertemplate="predicted %{x:.4f}, clicked %{y:.4f}, %{customdata:,} impressions",
        )
    figure.update_xaxes(title="mean predicted click probability", range=[0, reach])
    figure.update_yaxes(title="observed click rate", range=[0, reach])
    return _styled(figure, 420)


def lineage(models: Rows) -> go.Figure:
    """Every model of MODELS at its date, a row a level, with a line from each to the models it was made from."""
    place = {model["model_id"]: (str(model["date"]), named(model["level"])) for model in models}
    edges = [
        (place[parent], place[model["model_id"]]) for model in models for parent in model["parents"] if parent in place
    ]
    figure = go.Figure()
    figure.add_scatter(
        x=[x for (start, _), (end, _) in edges for x in (start, end, None)],
        y=[y for (_, start), (_, end) in edges for y in (start, end, None)],
        mode="lines",
        line={"color": "#afb8c1", "width": 1.2},
        showlegend=False,
        hoverinfo="skip",
    )
    for level, rows in _by(models, "level"):
        figure.add_scatter(
            x=[str(row["date"]) for row in rows],
            y=[named(level)] * len(rows),
            text=[row["model_id"] for row in rows],
            mode="markers",
            marker={"size": 11, "color": _colour(level), "line": {"color": "white", "width": 1}},
            showlegend=False,
            hovertemplate="%{text}<extra></extra>",
        )
    present = [name for level, name in NAMES.items() if any(model["level"] == level for model in models)]
    figure.update_yaxes(categoryorder="array", categoryarray=present[::-1])
    # A step a date, not a date axis: months of TPM would squeeze the days of A-CTR together.
    dates = sorted({str(model["date"]) for model in models})
    figure.update_xaxes(type="category", categoryorder="array", categoryarray=dates, tickangle=-50)
    return _styled(figure, 150 + 60 * len(present))


def seconds(stages: Sequence[str], spent: Sequence[float]) -> go.Figure:
    """A bar a stage."""
    figure = go.Figure()
    figure.add_bar(
        x=list(spent),
        y=list(stages),
        orientation="h",
        marker={"color": "#54aeff"},
        text=[f"{value:,.1f} s" for value in spent],
        textposition="outside",
        cliponaxis=False,
        hoverinfo="skip",
    )
    figure.update_yaxes(autorange="reversed")
    figure.update_xaxes(title="seconds")
    return _styled(figure, 110 + 34 * len(stages))


def named(level: str) -> str:
    """A level as people write it."""
    return NAMES.get(level, level)


def _by(rows: Rows, field: str) -> Iterable[tuple[str, Rows]]:
    """The rows of each value of the field, in the order in which they come."""
    values = sorted({row[field] for row in rows})
    return ((value, [row for row in rows if row[field] == value]) for value in values)


def _colour(level: str) -> str:
    return _COLOURS.get(level, "#57606a")


def _styled(figure: go.Figure, height: int) -> go.Figure:
    return figure.update_layout(
        template="plotly_white",
        height=height,
        margin={"l": 70, "r": 60, "t": 24, "b": 50},
        font={"family": "system-ui, -apple-system, 'Segoe UI', sans-serif", "size": 13, "color": "#1f2328"},
        legend={"orientation": "h", "y": 1.02, "yanchor": "bottom", "x": 0},
    )
