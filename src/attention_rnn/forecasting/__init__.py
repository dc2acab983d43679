"""
Around a forecaster: reading series, windows of them, what needs no training, metrics and pictures.

What a training needs has its names here; see `windows.py`.
"""

from .data import Series, SeriesSet, read_series
from .settings import Settings, choose_settings
from .tables import Columns
from .windows import Features, Windows, batches, collate, forecast_table, split_by_time, standardizers

__all__ = [
    "Columns",
    "Features",
    "Series",
    "SeriesSet",
    "Settings",
    "Windows",
    "batches",
    "choose_settings",
    "collate",
    "forecast_table",
    "read_series",
    "split_by_time",
    "standardizers",
]
