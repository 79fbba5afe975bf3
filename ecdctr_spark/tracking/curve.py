"""A training's learning curve as a small SVG that any browser, and MLflow's page of artefacts, shows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

Points = Sequence[tuple[float, float]]

_WIDTH, _HEIGHT, _LEFT, _RIGHT, _TOP, _BOTTOM = 640, 320, 70, 20, 40, 40
_COLOURS = ("#1f77b4", "#d62728")


def learning_curve(lines: Mapping[str, Points]) -> str:
    """The lines by their names, each of one or more points (rows trained on, loss), in one plot."""
    every = [point for points in lines.values() for point in points]
    rows, losses = [point[0] for point in every], [point[1] for point in every]
    low, high = min(losses, default=0.0), max(losses, default=1.0)
    most, span = max(rows, default=1.0) or 1.0, (high - low) or 1.0

    def at(point: tuple[float, float]) -> str:
        x = _LEFT + point[0] / most * (_WIDTH - _LEFT - _RIGHT)
        y = _HEIGHT - _BOTTOM - (point[1] - low) / span * (_HEIGHT - _TOP - _BOTTOM)
        return f"{x:.1f},{y:.1f}"

    drawn = []
    for place, ((name, points), colour) in enumerate(zip(lines.items(), _COLOURS, strict=False)):
        ordered = sorted(points)
        path = " ".join(map(at, [*ordered, ordered[-1]]))  # a line to itself shows a single point
        stroke = f'stroke="{colour}" stroke-width="3" stroke-linecap="round"'
        drawn.append(f'<polyline points="{path}" fill="none" {stroke}/>')
        drawn.append(f'<text x="{_LEFT + 160 * place}" y="20" fill="{colour}">{name}</text>')
    floor, right = _HEIGHT - _BOTTOM, _WIDTH - _RIGHT
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}" font-family="sans-serif"'
        f' font-size="13"><rect width="{_WIDTH}" height="{_HEIGHT}" fill="white"/>'
        f'<path d="M{_LEFT},{_TOP}V{floor}H{right}" fill="none" stroke="gray"/>'
        f'<text x="{_LEFT - 6}" y="{_TOP + 5}" text-anchor="end">{high:.4f}</text>'
        f'<text x="{_LEFT - 6}" y="{floor}" text-anchor="end">{low:.4f}</text>'
        f'<text x="{right}" y="{_HEIGHT - 15}" text-anchor="end">{most:,.0f} rows</text>'
        f"{''.join(drawn)}</svg>"
    )
