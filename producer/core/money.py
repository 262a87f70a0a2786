"""Money is a whole number of micro-US-dollars, and has a type of its own.

1. Amounts enter as decimal text (or a number that is turned into its shortest decimal text) and are rounded UP, so
   that nothing is ever booked below what it cost.
2. NaN, infinities, negatives and anything that is not a number are refused at the door.
3. Inside the program no amount is a float; floats appear only where the 0.3.x API promises them.
"""

from __future__ import annotations

from decimal import ROUND_CEILING, Decimal, InvalidOperation
from typing import NewType

from producer.errors import MoneyError

MicroUSD = NewType("MicroUSD", int)

ZERO = MicroUSD(0)
MILLION = 1_000_000
MAX = MicroUSD(2**53)  # nine billion dollars; every amount stays exact in JSON and in a SQLite REAL


def parse_usd(value: object) -> MicroUSD:
    """Dollars, as text, int, float or Decimal, to micro-dollars, rounded up.

    Raises MoneyError for NaN, infinities, negatives, bools, other types and amounts beyond nine billion dollars.
    """
    if isinstance(value, bool) or not isinstance(value, (str, int, float, Decimal)):
        raise MoneyError(f"{value!r} is not an amount of US dollars")
    try:
        amount = Decimal(str(value))
    except InvalidOperation:
        raise MoneyError(f"{value!r} is not an amount of US dollars") from None
    if not amount.is_finite() or amount < 0 or amount * MILLION > MAX:
        raise MoneyError(f"{value} is not an amount of US dollars between 0 and {MAX // MILLION}")
    return round_up(amount * MILLION)


def round_up(micros: Decimal) -> MicroUSD:
    """A fractional number of micro-dollars to the next whole one."""
    return MicroUSD(int(micros.to_integral_value(rounding=ROUND_CEILING)))


def format_usd(amount: int) -> str:
    """Micro-dollars to an exact decimal string with at least two decimals: 1500000 -> '1.50'."""
    sign, amount = ("-", -amount) if amount < 0 else ("", amount)
    whole, rest = divmod(amount, MILLION)
    digits = f"{rest:06d}".rstrip("0").ljust(2, "0")
    return f"{sign}{whole}.{digits}"


def to_float(amount: int) -> float:
    """Micro-dollars to the float dollars that the 0.3.x API promises."""
    return amount / MILLION
