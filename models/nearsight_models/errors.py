"""Errors of the model store.

ModelError
├── UnknownModelError      no manifest bears this name
├── MissingFilesError      a manifest names a file that is not there
└── ChecksumError          a file is not the one its manifest states
"""

from __future__ import annotations


class ModelError(Exception):
    """A model that is unknown, incomplete or changed; the text is one line with the remedy."""


class UnknownModelError(ModelError):
    """No manifest bears this name."""


class MissingFilesError(ModelError):
    """A manifest names a file that is not there."""


class ChecksumError(ModelError):
    """A file's size or SHA-256 is not the one its manifest states."""
