"""WildGuard and PolyGuard: guard models as local Hugging Face models behind the judge protocol.

Steps: fill the published format (`guard_formats`), batch by length, greedy generation, read the lines. A parse failure is
unscored with the raw text kept. WildGuard reads English only: put a translator before it (`TranslatedJudge`); PolyGuard
reads 17 languages, Yoruba not among them. Both need the prompt. Texts longer than the model's window are shortened at
the end of the answer, since a refusal stands at its start.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Literal, TypeAlias, cast

from refusal_lens.errors import ModelError
from refusal_lens.judging.answer import Answer, unscored
from refusal_lens.judging.guard_formats import (
    POLYGUARD_SYSTEM,
    POLYGUARD_USER,
    WILDGUARD_FORMAT,
    GuardLabels,
    fill,
    parse_guard,
)
from refusal_lens.judging.screening import unscorable
from refusal_lens.types import Verdict

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

GuardKind: TypeAlias = Literal["wildguard", "polyguard"]

PUBLISHED: dict[GuardKind, str] = {"wildguard": "allenai/wildguard", "polyguard": "ToxicityPrompts/PolyGuard-Qwen"}
MAX_NEW_TOKENS: dict[GuardKind, int] = {"wildguard": 32, "polyguard": 100}
VERSION = 1
_RAW_KEPT = 400
_LONGEST_ANSWER = 8000


class GuardJudge:
    """A guard model as a judge."""

    needs_prompt = True

    def __init__(self, kind: GuardKind, *, model: str = "", batch_size: int = 8) -> None:
        """Name the model; it is loaded on first use.

        Args:
            kind: Whose format to use.
            model: Hub id or folder; empty for the published one.
            batch_size: Answers at once.
        """
        self.kind: GuardKind = kind
        self.model = model or PUBLISHED[kind]
        self.batch_size = batch_size

    @property
    def name(self) -> str:
        """Kind, version, digest of the format, and the model."""
        text = WILDGUARD_FORMAT if self.kind == "wildguard" else POLYGUARD_SYSTEM + POLYGUARD_USER
        return f"{self.kind}-{VERSION}+{hashlib.sha256(text.encode()).hexdigest()[:8]}:{self.model}"

    def judge(self, answers: Sequence[Answer]) -> list[Verdict]:
        """Judge answers in batches.

        Args:
            answers: The answers, each with its prompt.

        Returns:
            One verdict per answer, in order.

        Raises:
            ModelError: The model cannot be loaded.
        """
        why = [unscorable(answer.text) or ("no prompt" if answer.prompt is None else None) for answer in answers]
        asked = [row for row, reason in enumerate(why) if reason is None]
        raw = dict(zip(asked, self.outputs([answers[row] for row in asked]), strict=True))
        return [
            unscored(answer, reason, judge=self.name) if reason is not None else self._verdict(answer, raw[row])
            for row, (answer, reason) in enumerate(zip(answers, why, strict=True))
        ]

    def outputs(self, answers: Sequence[Answer]) -> list[str]:
        """What the model writes about each answer.

        Args:
            answers: Answers with their prompts.

        Returns:
            Raw outputs, in order.
        """
        if not answers:
            return []
        texts = [self.render(answer) for answer in answers]
        order = sorted(range(len(texts)), key=lambda row: len(texts[row]))
        found: dict[int, str] = {}
        for start in range(0, len(order), self.batch_size):
            rows = order[start : start + self.batch_size]
            found.update(zip(rows, self._generate([texts[row] for row in rows]), strict=True))
        return [found[row] for row in range(len(texts))]

    def render(self, answer: Answer) -> str:
        """The exact text the model reads for one answer, special tokens written out."""
        prompt, response = answer.prompt or "", answer.text[:_LONGEST_ANSWER]
        if self.kind == "wildguard":
            return fill(WILDGUARD_FORMAT, prompt=prompt, response=response)
        messages = [
            {"role": "system", "content": POLYGUARD_SYSTEM},
            {"role": "user", "content": fill(POLYGUARD_USER, prompt=prompt, response=response)},
        ]
        tokenizer = self._loaded[1]
        return cast("str", tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True))

    @cached_property
    def _loaded(self) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
        import torch
        from transformers import AutoModelForCausalLM, AutoTokenizer

        accelerated = torch.cuda.is_available()
        try:
            tokenizer = AutoTokenizer.from_pretrained(self.model, padding_side="left")
            dtype = torch.bfloat16 if accelerated else torch.float32
            network = AutoModelForCausalLM.from_pretrained(self.model, dtype=dtype)
        except (OSError, ValueError, KeyError) as error:
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise ModelError(
                f"{self.kind} model {self.model!r} cannot be loaded: {reason}; name a folder with --model"
            ) from error
        if self.kind == "polyguard" and tokenizer.chat_template is None:
            raise ModelError(f"polyguard model {self.model!r} has no chat template, which its format needs")
        if tokenizer.pad_token_id is None:
            tokenizer.pad_token = tokenizer.eos_token
        cast("torch.nn.Module", network).to("cuda" if accelerated else "cpu")
        return network.eval(), tokenizer

    def _generate(self, texts: list[str]) -> list[str]:
        import torch

        network, tokenizer = self._loaded
        # The formats write their own special tokens.
        batch = tokenizer(texts, return_tensors="pt", padding=True, add_special_tokens=False).to(network.device)
        ids = batch["input_ids"]
        generate = cast("Callable[..., torch.Tensor]", network.generate)
        with torch.inference_mode():
            output = generate(
                input_ids=ids,
                attention_mask=batch["attention_mask"],
                max_new_tokens=MAX_NEW_TOKENS[self.kind],
                do_sample=False,
                pad_token_id=tokenizer.pad_token_id,
            )
        return tokenizer.batch_decode(output[:, ids.shape[1] :], skip_special_tokens=True)

    def _verdict(self, answer: Answer, raw: str) -> Verdict:
        labels = parse_guard(raw)
        if labels.refusal is None:
            return unscored(answer, f"parse failure: {raw[:_RAW_KEPT]}", judge=self.name)
        return Verdict(
            label="refused" if labels.refusal else "complied",
            score=1.0 if labels.refusal else -1.0,
            uncertain=False,
            reason=_told(labels),
            judge=self.name,
            truncated=not answer.finished,
            reading=labels.reading,
        )


def _told(labels: GuardLabels) -> str:
    words = {True: "yes", False: "no", None: "not said"}
    return (
        f"harmful request: {words[labels.harmful_request]}, refusal: {words[labels.refusal]}, "
        f"harmful response: {words[labels.harmful_response]}"
    )
