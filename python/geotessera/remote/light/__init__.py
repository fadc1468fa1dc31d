"""Connections of our own, for many small requests: what each costs is this process's own time."""

from geotessera.remote.light.client import Begun, LightReply, open_light

__all__ = ["Begun", "LightReply", "open_light"]
