"""Decide about a chat before it is answered: score, flag, log without its text, stop when told.

The gate is a function from the monitor's word to a refusal or None; the default refuses what is flagged. The log holds a line
per request: time, id, language, probability, threshold, what was done, milliseconds. Nothing of the text, nor a digest of it.
"""

from __future__ import annotations

import json
import logging
import os
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from time import perf_counter
from typing import Literal, TypeAlias

from refusal_lens.core.files import PRIVATE_FILE
from refusal_lens.model import LensModel
from refusal_lens.monitor import Chat, Monitor, Scored
from refusal_lens.serve.drift import Drift

log = logging.getLogger(__name__)

Action: TypeAlias = Literal["answered", "refused", "noted"]
Gate: TypeAlias = Callable[[Scored], str | None]
REFUSAL = "I can't help with that."


@dataclass(frozen=True)
class Settings:
    """How the server behaves.

    Attributes:
        refusal: What a flagged request is told.
        gate: False only notes what is flagged and answers it.
        log_file: Decision log, JSON Lines; None for none.
        kill_file: While this file exists nothing is answered; None for none.
        admin_token: Bearer token of the admin endpoints; None closes them.
    """

    refusal: str = REFUSAL
    gate: bool = True
    log_file: Path | None = None
    kill_file: Path | None = None
    admin_token: str | None = None


@dataclass(frozen=True)
class Decision:
    """What is to be done with a request."""

    request: str
    scored: Scored
    action: Action
    refusal: str | None
    milliseconds: float


@dataclass
class Guard:
    """A monitor with its model, a gate, a log and a switch."""

    monitor: Monitor
    model: LensModel
    settings: Settings = Settings()
    gate: Gate | None = None
    stopped: bool = False
    drift: Drift = field(init=False)
    _model_lock: threading.Lock = field(default_factory=threading.Lock)
    _log_lock: threading.Lock = field(default_factory=threading.Lock)

    def __post_init__(self) -> None:
        """Refuse a model that is not the monitor's."""
        self.monitor.check_model(self.model)
        self.drift = Drift(self.monitor.card)

    @property
    def lock(self) -> threading.Lock:
        """Held by whoever runs the monitor's model."""
        return self._model_lock

    def is_stopped(self) -> bool:
        """Whether the kill switch is on: by the admin endpoint, or by its file."""
        return self.stopped or (self.settings.kill_file is not None and self.settings.kill_file.exists())

    def decide(self, request: str, chat: Chat) -> Decision:
        """Score a chat and say what is to be done.

        Args:
            request: Id of the request, for the log.
            chat: Messages, the user's last.

        Returns:
            The decision, logged already.
        """
        start = perf_counter()
        with self._model_lock:
            raw = float(self.monitor.raw(self.model, [chat])[0])
        scored = self.monitor.judge(raw, self.monitor.language_of(chat, None))
        refusal = (self.gate or self._refuse_flagged)(scored)
        action: Action = "refused" if refusal is not None else "noted" if scored.flag else "answered"
        if not scored.flag:
            with self._log_lock:
                self.drift.saw(scored.language, raw)
        decision = Decision(request, scored, action, refusal, 1000 * (perf_counter() - start))
        self._write(decision)
        return decision

    def _refuse_flagged(self, scored: Scored) -> str | None:
        return self.settings.refusal if scored.flag and self.settings.gate else None

    def _write(self, decision: Decision) -> None:
        if self.settings.log_file is None:
            return
        scored = decision.scored
        known = scored.harmful_probability == scored.harmful_probability
        line = {
            "time": datetime.now(UTC).isoformat(timespec="milliseconds"),
            "request": decision.request,
            "language": scored.language,
            "harmful_probability": round(scored.harmful_probability, 4) if known else None,
            "threshold": round(scored.threshold, 4),
            "flag": scored.flag,
            "action": decision.action,
            "milliseconds": round(decision.milliseconds, 2),
        }
        with self._log_lock:
            if alarms := self.drift.alarms():
                line["drift"] = ",".join(alarms)
            descriptor = os.open(self.settings.log_file, os.O_WRONLY | os.O_CREAT | os.O_APPEND, PRIVATE_FILE)
            with os.fdopen(descriptor, "a", encoding="utf-8") as stream:
                stream.write(json.dumps(line) + "\n")
