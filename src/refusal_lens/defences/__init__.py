"""Defences at run time: gates and maps with one face, hardening, and the bench that measures them against named attackers."""

from refusal_lens.defences.choosing import Fitting
from refusal_lens.defences.face import Card, Defence, FitData, Limits
from refusal_lens.defences.gate import Gate, cut_in_two, fit_gate
from refusal_lens.defences.hardening import harden, known_hardening, load_hardened
from refusal_lens.defences.registry import METHODS, fit_defence, load_defence
from refusal_lens.defences.teaching import HARDENING, Recipe
from refusal_lens.defences.trial import measure_defence

__all__ = [
    "HARDENING",
    "METHODS",
    "Card",
    "Defence",
    "FitData",
    "Fitting",
    "Gate",
    "Limits",
    "Recipe",
    "cut_in_two",
    "fit_defence",
    "fit_gate",
    "harden",
    "known_hardening",
    "load_defence",
    "load_hardened",
    "measure_defence",
]
