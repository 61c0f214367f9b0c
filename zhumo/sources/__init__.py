"""Sources: where data and weights come from, and what they are. `zhumo.sources.fetch` says how they are named."""

from zhumo.sources.cache import cache_folder
from zhumo.sources.catalogue import CATALOGUE, GROUPS, Entry
from zhumo.sources.fetch import catalogue, fetch, fingerprint, licence_of, pull
from zhumo.sources.lines import Bad, Record
from zhumo.sources.rows import Rows, open_rows

__all__ = [
    "CATALOGUE",
    "GROUPS",
    "Bad",
    "Entry",
    "Record",
    "Rows",
    "cache_folder",
    "catalogue",
    "fetch",
    "fingerprint",
    "licence_of",
    "open_rows",
    "pull",
]
