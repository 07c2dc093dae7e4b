"""The rounding modes by name, written out, so that tests miss a mode that the package loses."""

DETERMINISTIC = [
    "nearest-even",
    "nearest-away",
    "nearest-zero",
    "toward-zero",
    "up",
    "down",
    "away",
    "odd",
]
STOCHASTIC = ["stochastic", "stochastic-b", "stochastic-c", "stochastic-equal"]
MODES = DETERMINISTIC + STOCHASTIC
