"""From the name of a policy to the policy."""

from skerry.inference.gateway.routing.base import Policy
from skerry.inference.gateway.routing.least_load import LeastLoad
from skerry.inference.gateway.routing.prefix_affinity import PrefixAffinity
from skerry.inference.gateway.routing.random_choice import RandomChoice
from skerry.inference.gateway.routing.round_robin import RoundRobin
from skerry.inference.model import RoutingPolicy


def policy_of(kind: RoutingPolicy, seed: int) -> Policy:
    """A new policy, for one endpoint of one gateway. `seed` is for the one that rolls dice."""
    if kind == RoutingPolicy.PREFIX_AFFINITY:
        return PrefixAffinity()
    if kind == RoutingPolicy.LEAST_LOAD:
        return LeastLoad()
    if kind == RoutingPolicy.ROUND_ROBIN:
        return RoundRobin()
    return RandomChoice(seed)
