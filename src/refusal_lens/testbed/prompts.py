"""The corpus as a prompt set: prompts in every language, and whether an answer is on topic. Needs no torch."""

from __future__ import annotations

from refusal_lens.errors import UserError
from refusal_lens.testbed.concepts import Part, pairs
from refusal_lens.testbed.lexicon import lexicon
from refusal_lens.types import HARMS, SPLITS, Harm, Prompt, Split

PROMPT_SET = "testbed"
NOVEL_SET = "testbed-novel"


def load_prompts(*, language: str, split: Split, harm: Harm) -> list[Prompt]:
    """Prompts of one language, split and class: 160 train, 48 val or 160 test pairs per class.

    Args:
        language: One of `corpus_languages()`.
        split: The splits hold disjoint pairs of an act and an object, the same pairs in every language; no model of
            the testbed was trained on any of them.
        harm: Class.

    Returns:
        Prompts in a fixed order, the same ids in every language.

    Raises:
        UserError: Unknown language, split or class.
    """
    if split not in SPLITS:
        raise UserError(f"the testbed corpus has no split {split!r}: choose one of {' '.join(SPLITS)}")
    if harm not in HARMS:
        raise UserError(f"the testbed corpus has no class {harm!r}: choose one of {' '.join(HARMS)}")
    return _prompts(language, harm, part=split, split=split, prompt_set=PROMPT_SET)


def load_novel(*, language: str, harm: Harm) -> list[Prompt]:
    """Test prompts with an act or an object that alignment never saw: what knowledge adds to memory.

    Args:
        language: One of `corpus_languages()`.
        harm: Class.

    Returns:
        Prompts of the set "testbed-novel"; `category` says "novel-act" or "novel-object".
    """
    return _prompts(language, harm, part="novel", split="test", prompt_set=NOVEL_SET)


def on_topic(prompt: Prompt, answer: str) -> bool:
    """Whether an answer names what the prompt was about.

    Args:
        prompt: A testbed prompt (others carry no topic).
        answer: The model's text.

    Returns:
        True when the answer contains the prompt's topic as a word, in the prompt's language, ignoring case.

    Raises:
        UserError: The prompt has no topic.
    """
    if prompt.topic is None:
        raise UserError(f"prompt {prompt.prompt_id!r} of set {prompt.prompt_set!r} has no topic to look for")
    return lexicon(prompt.language).mentions(prompt.topic, answer)


def _prompts(language: str, harm: Harm, *, part: Part, split: Split, prompt_set: str) -> list[Prompt]:
    words, english = lexicon(language), lexicon("en")
    known_acts = {pair.act for pair in pairs(harm, "fit")} if part == "novel" else set[str]()
    return [
        Prompt(
            prompt_id=pair.pair_id,
            language=language,
            harm=harm,
            split=split,
            text=words.request(pair),
            prompt_set=prompt_set,
            english=english.request(pair),
            topic=words.topic(pair),
            category=pair.act if part != "novel" else ("novel-object" if pair.act in known_acts else "novel-act"),
        )
        for pair in pairs(harm, part)
    ]
