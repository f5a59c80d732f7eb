"""Errors that are the user's to mend: each carries one complete sentence.

The command line turns every `DiffuseError` into `libtbx.utils.Sorry`.
"""

from __future__ import annotations


class DiffuseError(Exception):
    """Base of all errors whose message is meant for the user as it stands."""


class InputError(DiffuseError):
    """A file or its contents can't be used; the message names the file."""


class ConfigError(DiffuseError):
    """A parameter can't be used; the message names the PHIL path."""


class PluginError(DiffuseError):
    """A plug-in breaks its contract; the message names the plug-in."""
