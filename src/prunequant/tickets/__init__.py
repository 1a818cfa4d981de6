"""Exact strong lottery tickets: masks that turn a random quantized network into a given one.

`plan` sizes the source and certifies its failure, `find` finds the masks, `Ticket.verify` compares in exact integers.
Convolutions, depthwise, residual and attention layers: `structured` and `blocks`. Rounding inside a pair and the
quietest ticket: `noise`. Lower bounds by counting: `counting`. What must fail: `controls`.

>>> from prunequant import tickets
>>> net = tickets.random_network((4, 3, 2), 7, seed=0)
>>> ticket = tickets.find(net, tickets.plan(net, failure=1e-6), seed=1)
>>> ticket.verify([[1, -2, 3, 4]]).identical
True
"""

from prunequant.tickets import blocks, certificate, controls, counting, noise, source, structured
from prunequant.tickets.carve import Carving, Recipe, TicketNotFound, carve
from prunequant.tickets.files import TicketFileError
from prunequant.tickets.network import Network, random_network
from prunequant.tickets.noise import quietest
from prunequant.tickets.plan import Plan, plan, step
from prunequant.tickets.structured import Pair, find_pair
from prunequant.tickets.ticket import Ticket, Verification, find

__all__ = [
    "Carving",
    "Network",
    "Pair",
    "Plan",
    "Recipe",
    "Ticket",
    "TicketFileError",
    "TicketNotFound",
    "Verification",
    "blocks",
    "carve",
    "certificate",
    "controls",
    "counting",
    "find",
    "find_pair",
    "noise",
    "plan",
    "quietest",
    "random_network",
    "source",
    "step",
    "structured",
]
