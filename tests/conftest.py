"""Settings of the whole suite: property tests draw the same examples every time, however slowly."""

from hypothesis import settings

settings.register_profile("fastnn", deadline=None, derandomize=True)
settings.load_profile("fastnn")
