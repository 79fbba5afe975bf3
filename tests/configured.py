"""The setting that every configuration has to give, for those that tests make."""

FIRST_DAY = "calendar.first_day=2000-01-01"
