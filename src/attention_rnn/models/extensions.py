"""
Files of a user's own that register a cell or a score function: none, in this package.

A checkpoint that needs some carries them, and a copy of this file that imports each, so that its config knows their
names. See `carried_code.py`.
"""

EXTENSIONS: tuple[str, ...] = ()  # the names of the classes
