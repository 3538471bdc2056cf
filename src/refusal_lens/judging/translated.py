"""Translate, then judge: the way of the published evaluations, kept for comparability.

The answer is translated to English and a judge reads the translation; the translation is kept beside the verdict. A
failed translation is unscored, never judged as if it were an answer. Empty and repetitive answers are set aside before
translation, because a translator makes fluent text of both. Prompts are given as they are unless told otherwise.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace

from refusal_lens.core.thinking import check_format
from refusal_lens.errors import EndpointError
from refusal_lens.judging.answer import NO_REPLY, Answer, Judge, needs_prompt, unscored
from refusal_lens.judging.screening import unscorable
from refusal_lens.judging.thinking import split_answer
from refusal_lens.judging.translation import Translation, Translator
from refusal_lens.types import Verdict


class TranslatedJudge:
    """A judge that reads translations."""

    def __init__(
        self,
        judge: Judge,
        translator: Translator,
        *,
        target: str = "en",
        prompts: bool = False,
        thinking: str = "auto",
        keep_going: bool = False,
    ) -> None:
        """Put a translator before a judge.

        Args:
            judge: Who reads the translations.
            translator: Who makes them.
            target: Language the judge reads.
            prompts: Translate the prompts too.
            thinking: How thoughts stand in the answers; they are not translated.
            keep_going: Mark answers that no translator was there for unscored instead of raising.
        """
        self._judge = judge
        self._translator = translator
        self._target = target
        self._prompts = prompts
        self.thinking = check_format(thinking)
        self._keep_going = keep_going

    @property
    def name(self) -> str:
        """The judge's name and the translator's."""
        told = "" if self.thinking == "auto" else f" thinking={self.thinking}"
        return f"{self._judge.name} after {self._translator.name}{told}"

    def judge(self, answers: Sequence[Answer]) -> list[Verdict]:
        """One verdict per answer, in order."""
        return [verdict for verdict, _ in self.judge_with_translations(answers)]

    def judge_with_translations(self, answers: Sequence[Answer]) -> list[tuple[Verdict, Translation]]:
        """Judge answers and keep what was read.

        Args:
            answers: The answers.

        Returns:
            Verdict and translation per answer, in order.

        Raises:
            EndpointError: The translator's endpoint failed.
        """
        splits = [split_answer(answer, self.thinking) for answer in answers]
        answers = [replace(answer, text=split.answer or "") for answer, split in zip(answers, splits, strict=True)]
        why = [split.why or unscorable(answer.text) for answer, split in zip(answers, splits, strict=True)]
        translations = self._translated(answers, why)
        failed = [translation.error for translation in translations if translation.failed]
        if failed and not self._keep_going:
            raise EndpointError(
                f"the translator {self._translator.name} gave no reply to {len(failed)} of {len(answers)} texts ({failed[0]}); "
                "check that it is up, then go on: only what is missing is asked again"
            )
        read = [
            replace(answer, text=translation.text, language=self._target, prompt=prompt)
            for answer, translation, prompt in zip(answers, translations, self._prompts_of(answers), strict=True)
            if translation.text is not None
        ]
        verdicts = iter(self._judge.judge(read))
        return [
            (self._named(next(verdicts), answer), translation)
            if translation.text is not None
            else (unscored(answer, reason or self._why(translation), judge=self.name), translation)
            for answer, translation, reason in zip(answers, translations, why, strict=True)
        ]

    @property
    def needs_prompt(self) -> bool:
        """Whether the judge cannot do without the prompt."""
        return needs_prompt(self._judge)

    @staticmethod
    def _why(translation: Translation) -> str:
        return f"{NO_REPLY if translation.failed else ''}translation failed: {translation.error}"

    def _translated(self, answers: Sequence[Answer], why: Sequence[str | None]) -> list[Translation]:
        texts = [None if reason else answer.text for answer, reason in zip(answers, why, strict=True)]
        found = self._from(texts, [answer.language for answer in answers])
        return [
            Translation(None, reason) if reason else translation for translation, reason in zip(found, why, strict=True)
        ]

    def _prompts_of(self, answers: Sequence[Answer]) -> list[str | None]:
        prompts = [answer.prompt for answer in answers]
        if not self._prompts:
            return prompts
        return [found.text for found in self._from(prompts, [answer.language for answer in answers])]

    def _from(self, texts: Sequence[str | None], languages: Sequence[str]) -> list[Translation]:
        """Translate what is given, language by language; what is in the target language stays."""
        results = [Translation(text) for text in texts]
        rows: dict[str, list[int]] = defaultdict(list)
        for row, (text, language) in enumerate(zip(texts, languages, strict=True)):
            if text is not None and language != self._target:
                rows[language].append(row)
        for language, members in rows.items():
            batch = [texts[row] or "" for row in members]
            found = self._translator.translate(batch, source=language, target=self._target)
            for row, translation in zip(members, found, strict=True):
                results[row] = translation
        return results

    def _named(self, verdict: Verdict, answer: Answer) -> Verdict:
        # Evidence and language are those of the translation; the spans would mislead beside the original.
        return replace(
            verdict, judge=self.name, evidence=(), language=None, off_language=False, truncated=not answer.finished
        )
