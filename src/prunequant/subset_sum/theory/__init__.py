"""What is known about random subset sums and number partitions, as functions.

Symbols, as in the book: n samples; M, the bound of a sample (`bound`); t, a subset-sum target; z, a discrepancy; Z, a
number of solutions; σ² = M(M+1)/3, the variance of a sample uniform on {-M..M}; Λ, the sum of the samples; κ =
log2(M)/n.

`moments`  integrals and moments of Z: exact, and their Gaussian limits; the bounds on P(Z > 0) that follow.
`laws`     limit laws of Z: Poisson, mixture of Poissons, the critical window of number partitioning; predictions.
`edge`     the edge law, right in the deep tail too, and a proved lower bound on failure.
`growth`   what is proved: upper bounds on the failure probability, computable for every n and M (Theorem A).
"""

from .edge import edge_failure, magnitude_counts, one_sided_failure, positive_sum_law
from .growth import (
    all_targets_failure,
    blocks_failure,
    certified_samples,
    closed_failure,
    closed_samples,
    expected_growth,
    interval_law,
    one_target_failure,
    parity_floor,
)
from .laws import (
    all_targets_misses,
    critical_density,
    critical_kappa,
    critical_window,
    mixture_poisson_failure,
    mixture_poisson_tail,
    perfect_partition_probability,
    poisson_failure,
    random_target_failure,
    samples_needed,
    window_kappa,
)
from .moments import (
    cauchy_schwarz_bound,
    first_moment,
    first_moment_gaussian,
    markov_bound,
    partition_integral,
    second_moment,
    second_moment_ratio,
    second_moment_ratio_limit,
    subset_sum_integral,
)

__all__ = [
    "all_targets_failure",
    "all_targets_misses",
    "blocks_failure",
    "cauchy_schwarz_bound",
    "certified_samples",
    "closed_failure",
    "closed_samples",
    "critical_density",
    "critical_kappa",
    "critical_window",
    "edge_failure",
    "expected_growth",
    "first_moment",
    "first_moment_gaussian",
    "interval_law",
    "magnitude_counts",
    "markov_bound",
    "mixture_poisson_failure",
    "mixture_poisson_tail",
    "one_sided_failure",
    "one_target_failure",
    "parity_floor",
    "partition_integral",
    "perfect_partition_probability",
    "poisson_failure",
    "positive_sum_law",
    "random_target_failure",
    "samples_needed",
    "second_moment",
    "second_moment_ratio",
    "second_moment_ratio_limit",
    "subset_sum_integral",
    "window_kappa",
]
