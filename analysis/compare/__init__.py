"""Two bundles or more beside one another: what differs, by how much, how sure that is, and when nothing may be concluded.

`samples` takes measurements from frames, each with the cluster it is not independent within, `accounts` what recording cost; `ranks`,
`shares` and `effects` compare two sides of them; `fingerprint` says what a side is and `confounders` what else than the question sets two
apart; `spread` checks whether each Service's connections went where its mode says; `comparison` puts it together as the object that
docs/compare.md describes, `page` as HTML.
Import from here. Pure but for the page's own assets: nothing here reads a bundle or prints.
"""

from analysis.compare.accounts import recordings
from analysis.compare.claims import Claim
from analysis.compare.comparison import compare
from analysis.compare.confounders import VARIED
from analysis.compare.fingerprint import Fingerprint, fingerprint
from analysis.compare.page import build
from analysis.compare.samples import BY, Measured, measured, positions
from analysis.compare.side import Side
from analysis.compare.spread import spreads

__all__ = [
    "BY",
    "VARIED",
    "Claim",
    "Fingerprint",
    "Measured",
    "Side",
    "build",
    "compare",
    "fingerprint",
    "measured",
    "positions",
    "recordings",
    "spreads",
]
