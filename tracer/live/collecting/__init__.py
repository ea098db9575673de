"""A recording on all nodes at once, through the API server alone: recorders started together, bundles fetched, nodes left clean.

`collect` is the whole of it; `Deployment` puts agents where there are none, `EndpointChanges` tells what a filter by addresses missed.
May import `tracer.live` and `probes`; decides nothing about how it is shown.
"""

from tracer.live.collecting.agents import Agent, find_agents
from tracer.live.collecting.collection import Outcome, Plan, collect
from tracer.live.collecting.deployment import Deployment, agent_objects
from tracer.live.collecting.service import EndpointChanges

__all__ = [
    "Agent",
    "Deployment",
    "EndpointChanges",
    "Outcome",
    "Plan",
    "agent_objects",
    "collect",
    "find_agents",
]
