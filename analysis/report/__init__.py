"""`hopline report`: records in, one HTML file out that needs no network and nothing beside it.

`columns` packs the records, `seen` writes what is said without a script, `page` puts them together with
`assets/` (template, style, scripts) and `vendor/` (libraries as published, with their licences and hashes). Import from here; nothing
here reads a bundle or a clock.
"""

from analysis.report.page import build

__all__ = ["build"]
