"""The report's plots: each is a plotly figure of rows of a table."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import plotly.graph_objects as go

Rows = Sequence[Mapping[str, Any]]

Titles = Mapping[str, str]  # name to title of what is drawn, in order

_PALETTE = ("#0969da", "#bc4c00", "#1a7f37", "#8250df", "#bf3989", "#9a6700", "#0a7ea4", "#57606a")


def gauc_by_day(days: Rows, methods: Titles) -> go.Figure:
    """One line per method, from METRICS rows, one per (date, method)."""
    figure = go.Figure()
    for method, rows in _by(days, "method", methods):
        figure.add_scatter(
            x=[str(row["date"]) for row in rows],
            y=[row["gauc"] for row in rows],
            mode="lines+markers",
            name=methods[method],
            line={"color": _colour(method, methods), "width": 2.5},
            marker={"size": 8},
            hovertemplate="%{x}: %{y:.4f}",
        )
    figure.update_yaxes(title="GAUC")
    figure.update_xaxes(type="category", categoryorder="category ascending")
    return _styled(figure, 340)


def calibration(reliability: Rows, methods: Titles) -> go.Figure:
    """Observed against predicted click rate for each bin of `calibration.reliability`, and the diagonal."""
    figure = go.Figure()
    reach = 1.05 * max((max(row["prediction"], row["click_rate"]) for row in reliability), default=1.0)
    diagonal = {"color": "#8c959f", "width": 1.5, "dash": "dash"}
    figure.add_scatter(x=[0, reach], y=[0, reach], mode="lines", name="perfect", line=diagonal, hoverinfo="skip")
    for method, rows in _by(reliability, "method", methods):
        figure.add_scatter(
            x=[row["prediction"] for row in rows],
            y=[row["click_rate"] for row in rows],
            customdata=[row["impressions"] for row in rows],
            mode="lines+markers",
            name=methods[method],
            line={"color": _colour(method, methods), "width": 2},
            marker={"size": 8},
            hovertemplate="predicted %{x:.4f}, clicked %{y:.4f}, %{customdata:,.0f} impressions",
        )
    figure.update_xaxes(title="mean predicted click probability", range=[0, reach])
    figure.update_yaxes(title="observed click rate", range=[0, reach])
    return _styled(figure, 420)


def lineage(models: Rows, levels: Titles) -> go.Figure:
    """Every model of MODELS at its date, one line per level, with edges from the models it was made from."""
    place = {model["model_id"]: (str(model["date"]), levels[model["level"]]) for model in models}
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
    for level, rows in _by(models, "level", levels):
        figure.add_scatter(
            x=[str(row["date"]) for row in rows],
            y=[levels[level]] * len(rows),
            text=[row["model_id"] for row in rows],
            mode="markers",
            marker={"size": 11, "color": _colour(level, levels), "line": {"color": "white", "width": 1}},
            showlegend=False,
            hovertemplate="%{text}<extra></extra>",
        )
    present = [title for level, title in levels.items() if any(model["level"] == level for model in models)]
    figure.update_yaxes(categoryorder="array", categoryarray=present[::-1])
    # Dates at equal distances: on a date axis, monthly models would squeeze the daily ones together.
    dates = sorted({str(model["date"]) for model in models})
    figure.update_xaxes(type="category", categoryorder="array", categoryarray=dates, tickangle=-50)
    return _styled(figure, 150 + 60 * len(present))


def seconds(stages: Sequence[str], spent: Sequence[float]) -> go.Figure:
    """One bar per stage, with the seconds spent."""
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


def _by(rows: Rows, field: str, titles: Titles) -> Iterable[tuple[str, Rows]]:
    """The rows of each value of the field that has any, in the order of titles."""
    grouped = ((value, [row for row in rows if row[field] == value]) for value in titles)
    return ((value, found) for value, found in grouped if found)


def _colour(value: str, titles: Titles) -> str:
    return _PALETTE[list(titles).index(value) % len(_PALETTE)]


def _styled(figure: go.Figure, height: int) -> go.Figure:
    return figure.update_layout(
        template="plotly_white",
        height=height,
        margin={"l": 70, "r": 60, "t": 24, "b": 50},
        font={"family": "system-ui, -apple-system, 'Segoe UI', sans-serif", "size": 13, "color": "#1f2328"},
        legend={"orientation": "h", "y": 1.02, "yanchor": "bottom", "x": 0},
    )
