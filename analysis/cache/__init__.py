"""What was found once need not be looked for again: requests of a bundle, and what is made of them, kept under all that they follow from.

`Answers` is the entrance; `Question` says what an answer follows from, `store` is the folder, `digests` what files contain. Only the
command line uses this: the core neither knows of it nor needs it. Nothing heavy is imported here: what is kept is there at once.
"""

from analysis.cache.answers import Answers
from analysis.cache.question import Question
from analysis.cache.store import Store, open_store

__all__ = ["Answers", "Question", "Store", "open_store"]
