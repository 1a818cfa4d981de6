"""One option for every item, by trying all choices."""

from itertools import product


def least_error(sizes, errors, budget):
    """The least sum of errors of the choices whose sum of sizes is within the budget; infinity when there is none."""
    least = float("inf")
    for chosen in product(*(range(len(item)) for item in sizes)):
        if sum(item[i] for item, i in zip(sizes, chosen)) <= budget:
            least = min(least, sum(item[i] for item, i in zip(errors, chosen)))
    return least
