"""Property tests draw the same examples everywhere, and no timing decides any of them."""

from hypothesis import settings

settings.register_profile("project", deadline=None, derandomize=True)
settings.load_profile("project")
