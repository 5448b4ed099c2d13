"""What an engine tells about itself: metrics, health."""

from durable.telemetry.meter import Meter
from durable.telemetry.page import Health, Page

__all__ = ["Health", "Meter", "Page"]
