"""Judges: is an answer a refusal, a compliance, or neither? In 14 languages, without translation."""

from __future__ import annotations

from refusal_lens.judging.answer import Answer, Judge
from refusal_lens.judging.chat import KEY_VARIABLE, ChatClient
from refusal_lens.judging.encoder import EncoderJudge
from refusal_lens.judging.endpoint import EndpointJudge, require_replies
from refusal_lens.judging.given import JudgeFunction, as_judge
from refusal_lens.judging.guards import GuardJudge
from refusal_lens.judging.native import NativeJudge
from refusal_lens.judging.panel import PanelJudge
from refusal_lens.judging.registry import JUDGES, get_judge
from refusal_lens.judging.thinking import Judged, ThinkingJudge, judge_whole, split_answer, thinking_of
from refusal_lens.judging.translated import TranslatedJudge
from refusal_lens.judging.translation import Translation, Translator, get_translator

__all__ = [
    "JUDGES",
    "KEY_VARIABLE",
    "Answer",
    "ChatClient",
    "EncoderJudge",
    "EndpointJudge",
    "GuardJudge",
    "Judge",
    "JudgeFunction",
    "Judged",
    "NativeJudge",
    "PanelJudge",
    "ThinkingJudge",
    "TranslatedJudge",
    "Translation",
    "Translator",
    "as_judge",
    "get_judge",
    "get_translator",
    "judge_whole",
    "require_replies",
    "split_answer",
    "thinking_of",
]
