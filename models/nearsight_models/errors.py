"""Errors of the model store.

ModelError
├── UnknownModelError      no manifest bears this name
├── MissingFilesError      a manifest names a file that is not there
│   └── NotInstalledError  a model of the catalogue that was not fetched or made yet
├── ChecksumError          a file is not the one its manifest states
└── UsageError             what was asked for, or set, cannot be done as it is
"""

from __future__ import annotations


class ModelError(Exception):
    """A model that is unknown, incomplete or changed; the text is one line with the remedy."""


class UnknownModelError(ModelError):
    """No manifest bears this name."""


class MissingFilesError(ModelError):
    """A manifest names a file that is not there."""


class NotInstalledError(MissingFilesError):
    """A model of the catalogue that was not fetched or made yet."""


class ChecksumError(ModelError):
    """A file's size or SHA-256 is not the one its manifest states."""


class UsageError(ModelError):
    """What was asked for, or set in the environment, cannot be done as it is."""
