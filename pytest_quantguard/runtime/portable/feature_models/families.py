"""Every family of models that are computed with numpy; importing this fills the registry."""

from pytest_quantguard.runtime.portable.feature_models import (
    bayesian_probit,
    categories,
    linear,
    neighbors,
    recommender,
    support_vectors,
    suppression,
    transforms,
    tree_ensemble,
)

__all__ = [
    "bayesian_probit",
    "categories",
    "linear",
    "neighbors",
    "recommender",
    "support_vectors",
    "suppression",
    "transforms",
    "tree_ensemble",
]
