"""What an engine tells about itself: metrics, health."""

from durable.telemetry.meter import Meter
from durable.telemetry.page import Health, Page, metrics_text

__all__ = ["Health", "Meter", "Page", "metrics_text"]
