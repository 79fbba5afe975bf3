"""Words that logs use: for the columns of the raw contract, for the logs themselves, and for the values of domain."""

from __future__ import annotations

import re

# What logs call the columns of the raw contract, the likeliest first; a later tier only where no earlier one is there.
SYNONYMS: dict[str, tuple[tuple[str, ...], ...]] = {
    "event_id": (
        ("event_id",),
        ("impression_id", "imp_id", "impid", "display_id", "exposure_id", "event_uuid", "show_id", "insertion_id"),
        ("request_id", "req_id", "requestid", "reqid", "log_id", "trace_id", "pvid", "view_id", "bid_id", "auction_id"),
        ("uuid", "guid", "id", "row_id", "record_id"),
    ),
    "event_time": (
        ("event_time",),
        (
            "ts", "timestamp", "time", "datetime", "date_time", "event_ts", "event_timestamp", "impression_time",
            "impression_ts", "imp_time", "imp_ts", "shown_at", "show_time", "served_at", "serve_time", "display_time",
            "exposure_time", "time_ms", "ts_ms", "timestamp_ms", "epoch", "unix_time", "unixtime", "eventtime", "at",
        ),
        ("created_at", "server_time", "server_ts", "log_time", "logged_at", "request_time", "create_time", "t"),
        ("received_at", "ingested_at", "processed_at", "client_time", "date", "day", "dt", "ds"),
    ),
    "click_time": (
        ("click_time",),
        ("click_ts", "clicked_at", "click_timestamp", "click_at", "clk_time", "clk_ts", "time_of_click"),
        ("ts", "timestamp", "time", "datetime", "event_time", "event_ts", "event_timestamp", "at", "timestamp_ms"),
        ("created_at", "server_time", "log_time", "logged_at", "received_at", "date", "day", "dt", "ds"),
    ),
    "domain": (
        ("domain",),
        ("surface", "traffic_type", "is_ad", "is_ads", "is_sponsored", "sponsored", "ad_flag", "is_promoted"),
        (
            "channel", "placement_type", "content_type", "item_type", "card_type", "slot_type", "log_type",
            "inventory_type", "feed_type", "source_type", "traffic", "placement", "origin", "type",
        ),
    ),
    "user_id": (
        ("user_id",),
        ("uid", "userid", "user", "user_uuid"),
        (
            "member_id", "member", "customer_id", "customer", "visitor_id", "viewer_id", "account_id", "profile_id",
            "subscriber_id", "person_id", "reader_id", "buyer_id", "shopper_id", "player_id",
        ),
        ("client_id", "cookie_id", "device_id", "session_user", "hashed_user", "user_hash"),
    ),
    "item_id": (
        ("item_id",),
        ("iid", "itemid", "item", "item_uuid"),
        (
            "creative_id", "creative", "ad_id", "adid", "ad", "content_id", "content", "product_id", "product", "sku",
            "article_id", "article", "news_id", "video_id", "video", "movie_id", "movie", "post_id", "doc_id", "asin",
            "goods_id", "offer_id", "listing_id", "photo_id", "note_id", "song_id", "book_id", "feed_id",
        ),
        ("campaign_id", "target_id", "object_id", "entity_id"),
    ),
    "clicked": (
        ("clicked",),
        ("is_click", "is_clicked", "click", "clk", "click_flag", "has_click", "isclick", "clicked_flag"),
        ("label", "target", "y"),
    ),
    "valid_from": (("valid_from",), ("valid_since", "effective_from", "effective_date")),
}  # fmt: skip
LOG_WORDS = {
    "clicks": {"click", "clicks", "clk", "clicked", "clickstream", "clicklog"},
    "ads": {"ad", "ads", "sponsored", "promoted", "paid", "advert", "adverts", "advertising"},
    "users": {"user", "users", "member", "members", "customer", "customers", "profile", "profiles", "visitors"},
    "items": {
        "item", "items", "creative", "creatives", "product", "products", "content", "contents", "article", "articles",
        "video", "videos", "movies", "catalog", "catalogue", "news", "goods", "campaigns", "listings", "posts",
    },
    "impressions": {
        "impression", "impressions", "imp", "imps", "shown", "shows", "exposure", "exposures", "views", "events",
        "displays", "feed", "natural", "organic", "logs", "delivery", "served", "serving", "requests",
    },
}  # fmt: skip
AD_WORDS = {"ad", "ads", "sponsored", "promoted", "promotion", "paid", "advert", "advertisement", "commercial", "promo"}
NATURAL_WORDS = {
    "natural", "organic", "feed", "search", "recommendation", "recommendations", "recommended", "rec", "home",
    "content", "editorial", "free", "unpaid", "discovery", "explore", "timeline", "non_ad", "nonad", "not_sponsored",
}  # fmt: skip
FLAGS = {"0": "natural", "false": "natural", "no": "natural", "n": "natural"}
FLAGS |= {"1": "ad", "true": "ad", "yes": "ad", "y": "ad"}
CLICKED = {"0", "1", "true", "false", "0.0", "1.0"}
# Words in the names of columns that are known only after an impression was shown: features of them would leak.
AFTERWARDS = {
    "click", "clicks", "clicked", "dwell", "duration", "watch", "watched", "watchtime", "play", "played", "conversion",
    "converted", "convert", "purchase", "purchased", "revenue", "paid", "order", "orders", "liked", "like", "share",
    "shared", "comment", "commented", "label", "target", "reward", "outcome", "completed", "viewability", "cost",
    "charge", "follow", "followed", "favorite", "bounce", "exit", "scroll", "ctr",
}  # fmt: skip
CATEGORIES = ("category", "category_id", "cat", "cat_id", "cate_id", "cate", "genre", "topic", "vertical", "section")


def normal(name: str) -> str:
    """A name in lower case with underscores: requestID, request-id and Request.Id are request_id."""
    parted = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name)
    return re.sub("[^a-z0-9]+", "_", parted.lower()).strip("_")


def tier_of(name: str, column: str) -> int | None:
    """The tier of SYNONYMS[name] that the column's name is in; 0 is the name itself."""
    if column == name:
        return 0
    tiers = (tier for tier, synonyms in enumerate(SYNONYMS[name]) if normal(column) in synonyms)
    tier = next(tiers, None)
    return tier if tier is None else max(tier, 1)
