"""Walking rules as the kernel does, along every branch that chance may take, counting the rules evaluated.

`nft_do_chain` (net/netfilter/nf_tables_core.c) and `ipt_do_table` (net/ipv4/netfilter/ip_tables.c) try a chain's rules in order; a jump
comes back to the rule after it, a goto does not.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from probes.addresses import Address
from tracer.rules.model import Endpoint, Key, Packet, Rule, ServicePath, Sets

_DEEPEST = 16  # NFT_JUMP_STACK_SIZE: the kernel refuses deeper and circular rules, but a dump may be odd
_NOTHING = 1e-9


class Chain:
    """Rules in order, with an index: most of KUBE-SERVICES' thousands of rules ask for another address and port."""

    def __init__(self, rules: list[Rule]) -> None:
        self.rules = rules
        self._places: dict[tuple[Address | None, str, int], list[int]] = {}
        self._others: list[int] = []
        for place, rule in enumerate(rules):
            host = rule.destination.host if rule.destination is not None else None
            if rule.protocol is None or rule.port is None or (rule.destination is not None and host is None):
                self._others.append(place)
            else:
                self._places.setdefault((host, rule.protocol, rule.port), []).append(place)

    def candidates(self, packet: Packet) -> list[int]:
        """Places of the rules that may match, in order."""
        places = [*self._others, *self._places.get((None, packet.protocol, packet.port), ())]
        if packet.destination is not None:
            places += self._places.get((packet.destination, packet.protocol, packet.port), ())
        return sorted(places)


@dataclass(frozen=True, slots=True)
class State:
    """A packet on its way: rules walked so far, how likely it comes here, whether it is marked for masquerade, of what Service."""

    walked: int = 0
    chance: float = 1.0
    marked: bool | None = False
    service: str | None = None
    chains: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Outcome:
    """Where a walk can end: with an endpoint (`state.chance` is its probability), or with a verdict and none."""

    state: State
    endpoint: tuple[Address, int] | None
    verdict: str = "dnat"


@dataclass(slots=True)
class Ruleset:
    """The chains, sets and verdict maps of one table and one address family. A verdict map's values are chains or verdicts."""

    chains: dict[str, Chain]
    sets: Sets = field(default_factory=dict)
    maps: Mapping[str, Mapping[Key, Rule]] = field(default_factory=dict)

    def walk(self, chain: str, packet: Packet) -> Walk:
        """Everything that can become of the packet from this chain on."""
        walk = Walk(self, packet)
        walk.passed = walk.through(chain, State())
        return walk


class Walk:
    """One packet's walk: its `outcomes`, whether `affinity` was asked for on the way, and the state of what passed all rules."""

    def __init__(self, ruleset: Ruleset, packet: Packet) -> None:
        self.outcomes: list[Outcome] = []
        self.affinity = False
        self.passed = State()
        self._ruleset = ruleset
        self._packet = packet

    def through(self, name: str, entered: State) -> State:
        """Walk one chain; the state in which the packet comes back from it, chance 0 where it does not."""
        chain = self._ruleset.chains.get(name)
        if chain is None or name in entered.chains or len(entered.chains) >= _DEEPEST:
            return entered
        state = replace(entered, chains=(*entered.chains, name))
        start, elsewhere = entered.walked, 0  # rules of chains that came back
        for place in chain.candidates(self._packet):
            rule = chain.rules[place]
            matched = rule.matches(self._packet, self._ruleset.sets)
            self.affinity |= rule.affinity
            if rule.lookup is not None and matched:
                found = (self._ruleset.maps.get(rule.lookup, {}).get(key) for key in self._packet.keys)
                rule = next((verdict for verdict in found if verdict is not None), rule)
            state = replace(state, walked=start + place + 1 + elsewhere)
            if rule.marks:
                state, back = self._mark(state, rule, matched)
            elif matched:
                state, back = self._take(state, rule)
            else:
                continue
            elsewhere += back
            if (rule.returns and matched) or state.chance < _NOTHING:
                break
        else:
            state = replace(state, walked=start + len(chain.rules) + elsewhere)
        return replace(state, chains=entered.chains)

    def _mark(self, state: State, rule: Rule, matched: bool | None) -> tuple[State, int]:
        """A rule that asks for masquerade, by itself (nftables) or in a chain of its own (KUBE-MARK-MASQ)."""
        if matched is None and rule.source is not None and rule.source.host is None:
            return replace(state, marked=state.marked or None), 0
        if not matched:  # or from an unknown source to itself: hairpin is the exception
            return state, 0
        back = sum(len(self._ruleset.chains[branch.chain].rules) for branch in rule.branches if branch.chain in self._ruleset.chains)
        return replace(state, marked=True, walked=state.walked + back), back

    def _take(self, state: State, rule: Rule) -> tuple[State, int]:
        """What a matching rule does; the state after it in this chain, and how many rules the chains it called had."""
        taken = replace(state, chance=state.chance * rule.share, service=state.service or rule.service)
        left = state.chance - taken.chance
        for endpoint in rule.endpoints:
            hairpin = self._packet.source == endpoint.address
            ended = replace(taken, chance=taken.chance * endpoint.share, marked=hairpin or taken.marked)
            self.outcomes.append(Outcome(ended, (endpoint.address, endpoint.port)))
        if rule.stops is not None:
            self.outcomes.append(Outcome(taken, None, rule.stops))
        if rule.endpoints or rule.stops is not None:
            return replace(state, chance=left), 0
        if not rule.branches:
            return state, 0
        back, marked = 0, state.marked
        for branch in rule.branches:
            returned = self.through(branch.chain, replace(taken, chance=taken.chance * branch.share))
            if not rule.goes and returned.chance >= _NOTHING:
                left += returned.chance
                back, marked = returned.walked - state.walked, returned.marked
        return replace(state, chance=left, walked=state.walked + back, marked=marked), back


def common(paths: list[tuple[str, ...]]) -> tuple[str, ...]:
    """The chains that all paths begin with."""
    shared = []
    for chains in zip(*paths, strict=False):
        if len(set(chains)) > 1:
            break
        shared.append(chains[0])
    return tuple(shared)


def service_path(walk: Walk, endpoint: tuple[Address, int] | None, drop: int) -> ServicePath | None:
    """A walk's outcomes as one path, without the first `drop` chains (the hook's own).

    To one endpoint where it is given (None where it cannot be reached), else to any of them: then the chains are those in common and the
    rules those of the endpoint that takes the most.
    """
    verdicts = [outcome for outcome in walk.outcomes if outcome.endpoint is None]
    reached = [outcome for outcome in walk.outcomes if outcome.endpoint is not None]
    chosen = [outcome for outcome in reached if endpoint in (None, outcome.endpoint)]
    shares: dict[tuple[Address, int], float] = {}
    for outcome in reached:
        if outcome.endpoint is not None:
            shares[outcome.endpoint] = shares.get(outcome.endpoint, 0.0) + outcome.state.chance
    if not reached and endpoint is None:
        chosen = [outcome for outcome in verdicts if outcome.verdict in ("reject", "drop")]
    if not chosen:
        return None
    marks = {outcome.state.marked for outcome in chosen}
    return ServicePath(
        service=next((outcome.state.service for outcome in chosen if outcome.state.service), None),
        chains=common([outcome.state.chains for outcome in chosen])[drop:],
        rules_walked=max(outcome.state.walked for outcome in chosen),
        endpoints=tuple(Endpoint(*where, share) for where, share in shares.items()),
        affinity=walk.affinity,
        masquerade=marks.pop() if len(marks) == 1 else None,
        verdict=chosen[0].verdict,
    )
