"""Laws are checked on machines that do other work too: a slow example is no failure, a slow suite is."""

from hypothesis import settings

settings.register_profile("laws", deadline=None)
settings.load_profile("laws")
