"""Which request each call was made for: a proxy's upstream requests, an application's queries, both by the pod that made them.

`candidates` are the requests under way in the pod; `comparisons` say in what a pair agrees, `order` what an event loop gives away,
`linkage` what an agreement is worth, `matching` how probable each pair then is; `group` goes round until that settles, `tie` does so for
all.
"""

from tracer.requests.parents.facts import Facts, facts
from tracer.requests.parents.tie import Parents, parents

__all__ = ["Facts", "Parents", "facts", "parents"]
