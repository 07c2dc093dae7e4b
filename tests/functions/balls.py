"""The independent oracle of the functions: rigorous balls (Arb, by python-flint); special and
exact cases by rational arithmetic. Nothing of halfulp is used here.

A result is (kind, negative, t, rest, raised): for finite ones |f(x)| = t + d with 0 <= d < one unit
in the 50th bit of t, d > 0 exactly if `rest`; t is a float64 of at most 50 bits. Results beyond
2^±1000 are replaced by 2^±1000 with a rest. An exact case that is missing here cannot pass: balls
never decide it, and Undecided is raised.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from fractions import Fraction as Q

import flint
from flint import arb
from rounder import DIVIDE_BY_ZERO, FINITE, INFINITE, INVALID, NAN, ZERO, Result

BITS = 50
MOST_BITS = 40_000

FAR = 2.0**1000
HUGE, TINY = (FAR, True), (1 / FAR, True)


class Undecided(Exception):  # noqa: N818
    """No ball up to MOST_BITS bits decides: an exact case that the lists below lack."""


def _nan(raised: int = INVALID) -> Result:
    return NAN, False, 0.0, False, raised


def _inf(negative: bool = False, raised: int = 0) -> Result:
    return INFINITE, negative, 0.0, False, raised


def _zero(negative: bool = False) -> Result:
    return ZERO, negative, 0.0, False, 0


def _magnitude(negative: bool, part: tuple[float, bool]) -> Result:
    return FINITE, negative, part[0], part[1], 0


def _exact(v: Q) -> Result:
    """An exact result; its bits beyond the 50th become the rest."""
    if v == 0:
        return _zero()
    a = abs(v)
    e = a.numerator.bit_length() - a.denominator.bit_length()
    e -= Q(2) ** e > a
    if abs(e) > 990:
        return _magnitude(v < 0, HUGE if e > 0 else TINY)
    steps = a / Q(2) ** (e - BITS + 1)
    m = math.floor(steps)
    return _magnitude(v < 0, (math.ldexp(m, e - BITS + 1), m != steps))


def _cut(end: arb) -> tuple[int, int]:
    """Of an exact positive number: its leading 50 bits and their exponent."""
    man, exp = end.man_exp()
    m, e = int(man), int(exp)
    drop = m.bit_length() - BITS
    return (m >> drop if drop > 0 else m << -drop), e + drop


def _ball(f: Callable[[], arb], start: int = 100) -> Result:
    """An irrational result: balls of growing precision until both ends agree in 50 bits."""
    bits = start
    while bits <= MOST_BITS:
        flint.ctx.prec = bits
        v = f()
        bits *= 2
        if not v.is_finite() or v.contains(0):
            continue
        negative = bool(v < 0)
        if negative:
            v = -v
        low, high = _cut(v.lower()), _cut(v.upper())
        if low != high:
            # Far out the ends need not agree.
            if low[1] > 1000 and high[1] > 1000:
                return _magnitude(negative, HUGE)
            if low[1] < -1100 and high[1] < -1100:
                return _magnitude(negative, TINY)
            continue
        m, e = low
        if not -1000 < e + BITS < 1000:
            return _magnitude(negative, HUGE if e > 0 else TINY)
        return _magnitude(negative, (math.ldexp(m, e), True))
    raise Undecided


def _below(x: float) -> Result:
    """Just nearer to zero than x, by less than 2^-60 of it."""
    a = abs(x)
    m, e = math.frexp(a)
    n = int(math.ldexp(m, 53))
    # a = n·2^(e-53): the 50 bits of the number just below it.
    if n % 8 == 0:
        n = n // 8 - 1
        if n.bit_length() < BITS:  # a was a power of two
            return _magnitude(x < 0, (math.ldexp(2 * n + 1, e - BITS - 1), True))
        return _magnitude(x < 0, (math.ldexp(n, e - BITS), True))
    return _magnitude(x < 0, (math.ldexp(n // 8, e - BITS), True))


def _above(x: float) -> Result:
    """Just farther from zero than x."""
    m, e = math.frexp(abs(x))
    return _magnitude(x < 0, (math.ldexp(int(math.ldexp(m, 53)) // 8, e - BITS), True))


def _root_of(q: Q, k: int) -> Q | None:
    """The positive k-th root (k = 2, 3) of a positive rational if it is rational."""

    def integer(n: int) -> int | None:
        if k == 2:
            r = math.isqrt(n)
        else:
            r = round(n ** (1 / 3)) if n < 2**52 else int(flint.fmpz(n).root(3))
            while r**3 > n:
                r -= 1
            while (r + 1) ** 3 <= n:
                r += 1
        return r if r**k == n else None

    a, b = integer(q.numerator), integer(q.denominator)
    return None if a is None or b is None else Q(a, b)


def _is_power_of_two(q: Q) -> bool:
    n, d = q.numerator, q.denominator
    return n > 0 and n & (n - 1) == 0 and d & (d - 1) == 0


def _log2_of(q: Q) -> int:
    return q.numerator.bit_length() - q.denominator.bit_length()


_LARGE = 200.0  # exp(-200) < 2^-288


# ---------------------------------------------------------------- functions of one operand
# name: (at -inf, at ±0 (the zero given), at +inf, at finite x other than 0)
def _exp(x: float) -> Result:
    return _ball(lambda: arb(x).exp())


def _exp2(x: float) -> Result:
    if x == math.floor(x):
        if abs(x) > 2000:
            return _magnitude(False, HUGE if x > 0 else TINY)
        return _exact(Q(2) ** int(x))
    return _ball(lambda: (arb(x) * arb(2).log()).exp())


def _exp10(x: float) -> Result:
    if x == math.floor(x) and 0 <= x < 400:
        return _exact(Q(10) ** int(x))
    return _ball(lambda: (arb(x) * arb(10).log()).exp())


def _expm1(x: float) -> Result:
    if x < -_LARGE:
        return _below(-1.0)
    return _ball(lambda: arb(x).expm1())


def _log(x: float) -> Result:
    if x < 0:
        return _nan()
    return _zero() if x == 1 else _ball(lambda: arb(x).log())


def _log2(x: float) -> Result:
    if x < 0:
        return _nan()
    m, e = math.frexp(x)
    if m == 0.5:
        return _exact(Q(e - 1))
    return _ball(lambda: arb(x).log() / arb(2).log())


_POWERS_OF_TEN = {float(10**n): n for n in range(23)}  # those that are float64


def _log10(x: float) -> Result:
    if x < 0:
        return _nan()
    if x in _POWERS_OF_TEN:
        return _exact(Q(_POWERS_OF_TEN[x]))
    return _ball(lambda: arb(x).log() / arb(10).log())


def _log1p(x: float) -> Result:
    if x <= -1:
        return _nan() if x < -1 else _inf(True, DIVIDE_BY_ZERO)
    return _ball(lambda: arb(x).log1p())


def _tanh(x: float) -> Result:
    if abs(x) > _LARGE:
        return _below(math.copysign(1.0, x))
    return _ball(lambda: arb(x).tanh())


def _erf(x: float) -> Result:
    if abs(x) > 16:  # 1 - erf(16) < 2^-370
        return _below(math.copysign(1.0, x))
    return _ball(lambda: arb(x).erf())


def _erfc(x: float) -> Result:
    if x < -16:
        return _below(2.0)
    return _magnitude(False, TINY) if x > 2.0**14 else _ball(lambda: arb(x).erfc())


def _sigmoid(x: float) -> Result:
    if x > _LARGE:
        return _below(1.0)
    return _ball(lambda: 1 / (1 + (-arb(x)).exp()))


def _silu(x: float) -> Result:
    if x > _LARGE:
        return _below(x)
    return _ball(lambda: arb(x) / (1 + (-arb(x)).exp()))


def _gelu(x: float) -> Result:
    if x > 32:  # 1 - Phi(32) < 2^-730
        return _below(x)
    if x < -(2.0**14):
        return _magnitude(True, TINY)
    # 1 + erf is 0 to any precision far out, erfc is not.
    return _ball(lambda: arb(x) / 2 * (-arb(x) / arb(2).sqrt()).erfc())


def _softplus(x: float) -> Result:
    if x > _LARGE:
        return _above(x)
    return _ball(lambda: arb(x).exp().log1p())


def _rsqrt(x: float) -> Result:
    if x < 0:
        return _nan()
    if _is_power_of_two(Q(x)) and _log2_of(Q(x)) % 2 == 0:
        return _exact(Q(2) ** (-_log2_of(Q(x)) // 2))
    return _ball(lambda: arb(x).rsqrt())


def _cbrt(x: float) -> Result:
    sign = -1 if x < 0 else 1
    root = _root_of(Q(abs(x)), 3)
    return _exact(sign * root) if root is not None else _ball(lambda: sign * arb(abs(x)).root(3))


def _lgamma(x: float) -> Result:
    if x < 0 and x == math.floor(x):
        return _inf(False, DIVIDE_BY_ZERO)
    if x in (1, 2):
        return _zero()
    if x > 0:
        return _ball(lambda: arb(x).lgamma())
    # log|Gamma(x)| = log(π / |sin(πx)|) − lgamma(1 − x)
    return _ball(lambda: (arb.pi() / abs(arb.sin_pi(arb(x)))).log() - (1 - arb(x)).lgamma())


ONE, HALF = _exact(Q(1)), _exact(Q(1, 2))
MINUS_ONE = _exact(Q(-1))
Special = Result | None  # None: ±0 with the operand's sign
UNIVARIATE: dict[str, tuple[Result, Special, Result, Callable[[float], Result]]] = {
    "exp": (_zero(), ONE, _inf(), _exp),
    "exp2": (_zero(), ONE, _inf(), _exp2),
    "exp10": (_zero(), ONE, _inf(), _exp10),
    "expm1": (MINUS_ONE, None, _inf(), _expm1),
    "log": (_nan(), _inf(True, DIVIDE_BY_ZERO), _inf(), _log),
    "log2": (_nan(), _inf(True, DIVIDE_BY_ZERO), _inf(), _log2),
    "log10": (_nan(), _inf(True, DIVIDE_BY_ZERO), _inf(), _log10),
    "log1p": (_nan(), None, _inf(), _log1p),
    "sin": (_nan(), None, _nan(), lambda x: _ball(lambda: arb(x).sin())),
    "cos": (_nan(), ONE, _nan(), lambda x: _ball(lambda: arb(x).cos())),
    "tan": (_nan(), None, _nan(), lambda x: _ball(lambda: arb(x).tan())),
    "tanh": (MINUS_ONE, None, ONE, _tanh),
    "sigmoid": (_zero(), HALF, ONE, _sigmoid),
    "erf": (MINUS_ONE, None, ONE, _erf),
    "erfc": (_exact(Q(2)), ONE, _zero(), _erfc),
    "gelu": (_zero(True), None, _inf(), _gelu),
    "silu": (_zero(True), None, _inf(), _silu),
    "softplus": (_zero(), _ball(lambda: arb(2).log()), _inf(), _softplus),
    "rsqrt": (_nan(), None, _zero(), _rsqrt),  # ±0: see `one`
    "cbrt": (_inf(True), None, _inf(), _cbrt),
    "lgamma": (_inf(), _inf(False, DIVIDE_BY_ZERO), _inf(), _lgamma),
}


def one(name: str, x: float) -> Result:
    """The function `name` at the float64 x."""
    low, zero, high, finite = UNIVARIATE[name]
    if math.isnan(x):
        return _nan(0)
    if math.isinf(x):
        return low if x < 0 else high
    if x == 0:
        negative = math.copysign(1, x) < 0
        if name == "rsqrt":
            return _inf(negative, DIVIDE_BY_ZERO)
        return _zero(negative) if zero is None else zero
    return finite(x)


# ---------------------------------------------------------------- functions of two operands
def _pow(x: float, y: float) -> Result:
    if y == 0 or x == 1:
        return ONE
    if math.isnan(x) or math.isnan(y):
        return _nan(0)
    integer = math.isfinite(y) and y == math.floor(y)
    negative = math.copysign(1, x) < 0 and integer and int(y) % 2 == 1
    if math.isinf(y):
        if abs(x) == 1:
            return ONE
        return _inf() if (abs(x) > 1) == (y > 0) else _zero()
    if x == 0:
        return _inf(negative, DIVIDE_BY_ZERO) if y < 0 else _zero(negative)
    if math.isinf(x):
        return _zero(negative) if y < 0 else _inf(negative)
    if x < 0 and not integer:
        return _nan()
    sign = -1 if negative else 1
    base, exponent = Q(abs(x)), Q(y)
    if base == 1:
        return _exact(Q(sign))
    # x^(n/2^k), n odd, is rational exactly if x is a 2^k-th power of a rational.
    while exponent.denominator > 1:
        root = _root_of(base, 2)
        if root is None:
            return _ball(lambda: sign * (arb(abs(x)).log() * arb(y)).exp())
        base, exponent = root, exponent * 2
    n = exponent.numerator
    if _is_power_of_two(base):
        e = _log2_of(base) * n
        if abs(e) > 990:
            return _magnitude(negative, HUGE if e > 0 else TINY)
        return _exact(sign * Q(2) ** e)
    if 0 < n * base.numerator.bit_length() < 4096 and n * base.denominator.bit_length() < 4096:
        return _exact(sign * base**n)
    # Not dyadic (n < 0, an odd part in the denominator), or of more bits than balls need to decide.
    return _ball(lambda: sign * (arb(abs(x)).log() * arb(y)).exp())


def _hypot(x: float, y: float) -> Result:
    if math.isinf(x) or math.isinf(y):
        return _inf()
    if math.isnan(x) or math.isnan(y):
        return _nan(0)
    square = Q(x) ** 2 + Q(y) ** 2
    if square == 0:
        return _zero()
    root = _root_of(square, 2)
    return _exact(root) if root is not None else _ball(lambda: (arb(x) ** 2 + arb(y) ** 2).sqrt())


def _atan2(y: float, x: float) -> Result:
    if math.isnan(x) or math.isnan(y):
        return _nan(0)
    left, down = math.copysign(1, x) < 0, math.copysign(1, y) < 0
    sign = -1 if down else 1

    def pi(times: Q) -> Result:
        return _ball(lambda: sign * arb.pi() * times.numerator / times.denominator)

    if math.isinf(y):
        return pi(Q(1, 2)) if math.isfinite(x) else pi(Q(3, 4) if left else Q(1, 4))
    if y == 0 or math.isinf(x):
        return pi(Q(1)) if left else _zero(down)
    if x == 0:
        return pi(Q(1, 2))
    return _ball(lambda: arb.atan2(arb(y), arb(x)))


BIVARIATE = {"pow": _pow, "hypot": _hypot, "atan2": _atan2}
