"""Scores of how foreign an image is to a flow, and how well a score tells outliers.

Likelihood alone fails: simple images of another kind are more likely than those that a flow was trained
on (Nalisnick et al. 2019, arXiv:1810.09136). A lossless codec, which knows no data set, says how much
of that is their simplicity. In bits per dimension, S(x) = (-log2 p(x) - L(x)) / D, with L the bits of
the codec's file: a ratio of likelihoods, of the codec's to the flow's, as a logarithm. Serra et al.
2020, section 3, arXiv:1909.11480.
"""

import numpy as np
from jaxtyping import Float


def complexity_score(
    bits_per_dim: Float[np.ndarray, " images"], codec_bits_per_dim: Float[np.ndarray, " images"]
) -> Float[np.ndarray, " images"]:
    """S, the flow's bits per dimension less the codec's: the higher, the more foreign is an image.

    What the codec's header takes is the same of all images of one size, and moves all scores alike.

    Raises:
      ValueError: for unequal numbers of images.
    """
    if bits_per_dim.shape != codec_bits_per_dim.shape:
        raise ValueError(
            "there must be a number of the flow's and of the codec's for each image; got "
            f"{bits_per_dim.shape} and {codec_bits_per_dim.shape}"
        )
    return bits_per_dim - codec_bits_per_dim


def auroc(ordinary: Float[np.ndarray, " _"], outliers: Float[np.ndarray, " _"]) -> float:
    """The chance that an outlier's score is above an ordinary example's; of equal ones, a half.

    The area under the curve of true over false alarms: 1 where the score tells all, 0.5 where nothing,
    less where it takes outliers for ordinary.

    Raises:
      ValueError: for no score of a kind, and for scores that are not numbers.
    """
    for name, scores in (("ordinary", ordinary), ("outliers", outliers)):
        if not scores.size or np.isnan(scores).any():
            raise ValueError(f"{name} must be one number or more, none of them nan; got {scores}")
    ordered = np.sort(ordinary)
    below, up_to = (np.searchsorted(ordered, outliers, side) for side in ("left", "right"))
    return float((below + up_to).mean() / (2 * ordinary.size))
