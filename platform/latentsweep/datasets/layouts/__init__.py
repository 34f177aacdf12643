"""The layouts of sources: how their files make up scans, and whose each scan is.

A layout is a module here that has a :class:`~latentsweep.datasets.sources.discovery.Layout`, called ``LAYOUT``.
"""

from __future__ import annotations

import importlib
import pkgutil

from latentsweep.datasets.sources.discovery import Layout

LAYOUTS: dict[str, Layout] = {
    module.name: importlib.import_module(f"{__name__}.{module.name}").LAYOUT
    for module in pkgutil.iter_modules(__path__)
}
"""Every layout by the name that rows of :data:`latentsweep.datasets.catalogue.KNOWN` give it."""
