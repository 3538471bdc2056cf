"""A monitor of harmful prompts that reads what the model represents: fit, thresholds with a stated miss rate, evaluation."""

from refusal_lens.monitor.card import Calibration, Card
from refusal_lens.monitor.monitor import Monitor, Scored
from refusal_lens.monitor.reading import Chat, Stream

__all__ = ["Calibration", "Card", "Chat", "Monitor", "Scored", "Stream"]
