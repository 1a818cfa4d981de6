"""Exact strong lottery tickets: masks that turn a random quantized network into a given one.

>>> from prunequant import tickets
>>> net = tickets.random_network((4, 3, 2), 7, seed=0)
>>> ticket = tickets.find(net, tickets.plan(net, failure=1e-6), seed=1)
>>> ticket.verify([[1, -2, 3, 4]]).identical
True
"""

from prunequant.tickets._kernels import warm
from prunequant.tickets.carve import Carving, Recipe, TicketNotFound
from prunequant.tickets.digits import Digits, train_digits
from prunequant.tickets.network import Network, random_network
from prunequant.tickets.plan import Plan, plan, step
from prunequant.tickets.ticket import Ticket, Verification, find

__all__ = [
    "Carving",
    "Digits",
    "Network",
    "Plan",
    "Recipe",
    "Ticket",
    "TicketNotFound",
    "Verification",
    "find",
    "plan",
    "random_network",
    "step",
    "train_digits",
    "warm",
]
