"""Numbers and what they are worth: rates, intervals, paired tests, nulls, verdicts. Pure functions, no torch."""

from refusal_lens.measure.intervals import wilson
from refusal_lens.measure.rates import Cell, Rate, Record, rate_of, rate_rows

__all__ = ["Cell", "Rate", "Record", "rate_of", "rate_rows", "wilson"]
