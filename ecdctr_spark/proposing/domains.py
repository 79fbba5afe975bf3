"""What tells ads from natural content: a column and its values, as `ecdctr init` proposes them. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from ecdctr_spark.proposing.evidence import VAGUE, Guess, common
from ecdctr_spark.proposing.words import AD_WORDS, FLAGS, NATURAL_WORDS, normal, tier_of
from ecdctr_spark.sources.excerpts import Excerpt


def domain_column(excerpt: Excerpt, free: Sequence[str]) -> Guess:
    """The column that tells ads from natural content, by its values."""
    by_tier: dict[int, list[str]] = {}
    for column in free:
        tier, values = tier_of("domain", column), set(excerpt.columns[column].values) - {None}
        kinds = {_meant(column, value) for value in values if value}
        if tier is not None and len(values) <= 20 and "ad" in kinds:
            by_tier.setdefault(tier, []).append(column)
    if not by_tier:
        few = [column for column in free if 1 < len(set(excerpt.columns[column].values)) <= 20]
        seen = "; ".join(f"{column}: {common(excerpt.columns[column])}" for column in few) or "no column has few values"
        return Guess(
            None,
            False,
            f"no column has values such as natural, ad, feed, sponsored ({seen}); give one, and source.domains for its"
            " values; or, if ads are logged apart, name their folder with --ads",
        )
    best = by_tier[min(by_tier)]
    if len(best) > 1:
        return Guess(
            None,
            False,
            "several columns fit as well: "
            + "; ".join(f"{column} ({common(excerpt.columns[column])})" for column in best),
            tuple(best),
        )
    seen = common(excerpt.columns[best[0]])
    return Guess(best[0], True, seen) if min(by_tier) < 2 else Guess(best[0], False, f"{seen}; by its values{VAGUE}")


def proposed_domains(found: Mapping[str, Excerpt], columns: Mapping[str, Mapping[str, Guess]]) -> dict[str, Guess]:
    """The values of the domain's column that stand for natural content and for ads, beside natural and ad."""
    guess = columns["impressions"].get("domain")
    if guess is None or guess.value is None:
        return {}
    values = Counter(filter(None, found["impressions"].columns[guess.value].values))
    meant: dict[str, list[str]] = {"natural": [], "ad": []}
    unknown: list[str] = []
    for value in sorted(values):
        word = _meant(guess.value, value)
        (meant[word] if word else unknown).append(value)
    if not unknown and all(value in ("natural", "ad") for value in values):
        return {}
    total = sum(values.values())
    domains = {}
    for word, own in meant.items():
        share = ", ".join(f"{value} {values[value] / total:.1%}" for value in own)
        plain = [value for value in own if value != word]
        if own:
            strict = all(
                value.lower() in FLAGS or normal(value) in AD_WORDS | {"natural", "organic", "feed"} for value in own
            )
            domains[word] = Guess(plain, strict and not unknown, f"of the rows: {share}")
        else:
            domains[word] = Guess(None, False, f"no value looks like it: {', '.join(values)}")
    if unknown:
        lost = ", ".join(f"{value} ({values[value] / total:.1%})" for value in unknown)
        domains = {
            word: Guess(one.value, False, f"{one.why}. In neither list, so quarantined unless you add it: {lost}")
            for word, one in domains.items()
        }
    return domains


def _meant(column: str, value: str) -> str | None:
    """The domain that a value stands for."""
    words = set(normal(value).split("_")) | {normal(value)}
    if value.lower() in FLAGS:
        return FLAGS[value.lower()] if set(normal(column).split("_")) & (AD_WORDS | {"sponsored"}) else None
    if words & AD_WORDS and not words & {"non", "not", "no"}:
        return "ad"
    return "natural" if words & NATURAL_WORDS or words & {"non", "not", "no"} else None
