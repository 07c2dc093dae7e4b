from scipy.special import logsumexp, softmax  # noqa: F401
