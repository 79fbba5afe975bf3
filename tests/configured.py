"""The setting that every configuration must have, for those made by tests."""

FIRST_DAY = "calendar.first_day=2000-01-01"
