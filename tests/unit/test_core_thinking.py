"""Thoughts and answers, told apart in every format, and ordinary answers left alone."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from refusal_lens.core.thinking import CUT, FORMATS, NOTHING, ends_in_thoughts, split_thinking
from refusal_lens.errors import UserError

PLAIN = st.text(
    st.characters(blacklist_characters="<>[]|`~\u25c1\u25b7", blacklist_categories=("Cs",)), max_size=60
).filter(lambda text: "assistantfinal" not in text and not text.strip().startswith(("analysis", "final", "assistant")))


@pytest.mark.parametrize(
    ("text", "reasoning", "answer"),
    [
        ("<think>\nHm.\n</think>\n\nNo.", "Hm.", "No."),
        ('<Thinking effort="high">Hm.</THINKING>No.', "Hm.", "No."),
        ("<thought>a</thought>\n<thought>b</thought>No.", "a\n\nb", "No."),
        ("<reasoning>Hm.</reasoning><answer>No.</answer>", "Hm.", "No."),
        ("<think></think>\n\nNo.", "", "No."),
        ("Hm, let me see.\n</think>\n\nNo.", "Hm, let me see.", "No."),
        ("Hm, let me see.</think>No.", "Hm, let me see.", "No."),
        ("[THINK]Hm.[/THINK]No.", "Hm.", "No."),
        ("<|begin_of_thought|>Hm.<|end_of_thought|><|begin_of_solution|>No.<|end_of_solution|>", "Hm.", "No."),
        ("<|START_THINKING|>Hm.<|END_THINKING|><|START_RESPONSE|>No.<|END_RESPONSE|>", "Hm.", "No."),
        ("<|channel>thought\nHm.<channel|>No.", "Hm.", "No."),
        ("<seed:think>Hm.</seed:think>No.", "Hm.", "No."),
        ("<think>Close with `</think>`, then say it.\n</think>\nNo.", "Close with `</think>`, then say it.", "No."),
        ("<think>```\nx\n</think>\nNo.", "```\nx", "No."),
        ("<|channel|>analysis<|message|>Hm.<|end|><|start|>assistant<|channel|>final<|message|>No.<|return|>", "Hm.", "No."),
        ("Hm.<|end|><|start|>assistant<|channel|>final<|message|>No.", "Hm.", "No."),
        ("<|channel|>final<|message|>No.", None, "No."),
        (
            "<|channel|>analysis<|message|>Hm.<|end|><|start|>assistant<|channel|>commentary to=functions.look "
            "<|constrain|>json<|message|>{}<|call|><|start|>assistant<|channel|>final<|message|>No.",
            "Hm.\n\n{}",
            "No.",
        ),
        ("analysisHm.assistantfinalNo.", "Hm.", "No."),
        ("analysisHm.assistantcommentaryLooking.assistantfinalNo.", "Hm.assistantcommentaryLooking.", "No."),
        ("finalNo.", None, "No."),
    ],
)  # fmt: skip
def test_thoughts_and_answer_are_told_apart(text: str, reasoning: str | None, answer: str) -> None:
    found = split_thinking(text)
    assert found[:3] == (reasoning, answer, None)
    assert "".join(text[slice(*piece)] for piece in found.pieces) == answer


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("<think>\nHm, first one takes", CUT),
        ("[THINK]Hm", CUT),
        ("Let me think.\n<think>\nHm", CUT),
        ("<|channel|>analysis<|message|>Hm", CUT),
        ("analysisHm, the user", CUT),
        ("<think>Hm.</think>\n \n", NOTHING),
        ("<think></think>", NOTHING),
        ("<|channel|>analysis<|message|>Hm.<|end|>", NOTHING),
        ("analysisHm.assistantfinal", NOTHING),
    ],
)
def test_without_an_answer_there_is_a_reason(text: str, why: str) -> None:
    found = split_thinking(text)
    assert (found.answer, found.why) == (None, why) and found.reasoning is not None


@pytest.mark.parametrize(
    "text",
    [
        "Reasoning models write their thoughts like this:\n```\n<think>\nHm.\n</think>\nNo.\n```\nThat is all.",
        "The tag `<think>` opens and `</think>` closes the thoughts.",
        "The tag <think> opens and the tag </think> closes the thoughts.",
        "Write <think> first,\nthen your thoughts,\n</think>\nand then the answer.",
        "For example:\n\n    <think>\n    Hm.\n    </think>\n\nThat is all.",
        "~~~xml\n</think>\n~~~",
        'Use "</think>" to end them.',
        "analysis of the data shows that it is so",
        "final answer: 7",
        "finalmente se sabe",
        "In harmony, `<|channel|>analysis<|message|>` opens the thoughts.",
        "```\n<|start|>user<|message|>Hi<|end|><|start|>assistant<|channel|>analysis<|message|>\n```",
        "The text assistantfinal is what remains of the marks.",
        "x < think > y",
        "",
    ],
)
def test_auto_leaves_ordinary_answers_alone(text: str) -> None:
    assert split_thinking(text)[:3] == (None, text, None)


@given(PLAIN)
def test_without_marks_every_format_changes_nothing(text: str) -> None:
    for thinking in FORMATS:
        assert split_thinking(text, thinking)[:3] == (None, text, None)


@given(PLAIN, PLAIN.filter(str.strip))
def test_what_is_put_around_an_answer_comes_off_again(thoughts: str, answer: str) -> None:
    for text in (
        f"<think>{thoughts}</think>{answer}",
        f"[THINK]{thoughts}[/THINK]\n{answer}",
        f"<|channel|>analysis<|message|>{thoughts}<|end|><|start|>assistant<|channel|>final<|message|>{answer}<|return|>",
    ):
        found = split_thinking(text)
        assert (found.reasoning, found.answer) == (thoughts.strip(), answer.strip())
        assert text[found.place(0)] == answer.strip()[0]


def test_thoughts_between_two_parts_of_an_answer() -> None:
    text = "I will not.\n<think>\nHm.\n</think>\nAsk a locksmith."
    found = split_thinking(text)
    assert found.answer == "I will not.\n\nAsk a locksmith."
    assert text[found.place(found.answer.index("Ask")) :] == "Ask a locksmith."


def test_formats_that_are_asked_for() -> None:
    assert split_thinking("<think>a</think>b", "none").answer == "<think>a</think>b"
    assert split_thinking("<think>a</think>b", "harmony").answer == "<think>a</think>b"
    assert split_thinking("First <think>a</think> b", "think")[:2] == ("a", "First  b")
    assert split_thinking("## Thoughts\na\n## Answer\nb", r"## Thoughts\n.*?## Answer\n").answer == "b"
    found = split_thinking("T: a\nA: b!", r"T: (?P<reasoning>.*?)\nA: (?P<answer>\w+)")
    assert found[:3] == ("a", "b", None)
    assert split_thinking("no match", r"T:(.*)").answer == "no match"
    assert split_thinking("Hm, first one", opened=True).why == CUT
    assert split_thinking("Hm.</think>No.", opened=True)[:2] == ("Hm.", "No.")


@pytest.mark.parametrize(
    ("prompt", "opened"),
    [
        ("<|im_start|>assistant\n<think>\n", True),
        ("<|im_start|>assistant\n<think>\n\n</think>\n\n", False),
        ("user: what is <think>?\nassistant: ", False),
        ("[THINK]", True),
        ("<|start|>assistant", False),
    ],
)
def test_a_prompt_that_ends_inside_thoughts_is_seen(prompt: str, opened: bool) -> None:
    assert ends_in_thoughts(prompt) == opened


@pytest.mark.parametrize("thinking", ["thinks", "", "(", "auto none"])
def test_an_unknown_format_is_said(thinking: str) -> None:
    with pytest.raises(UserError, match="thinking format"):
        split_thinking("a", thinking)


@pytest.mark.parametrize("thinking", ["auto", "think", "harmony", r"<think>.*?</think>"])
def test_what_the_template_opened_must_be_closed_in_every_format(thinking: str) -> None:
    assert split_thinking("I cannot do that", thinking, opened=True)[:3] == ("I cannot do that", None, CUT)
    assert split_thinking("I cannot.</think>Sure.", thinking, opened=True)[:2] == ("I cannot.", "Sure.")
    assert split_thinking("I cannot.", "none", opened=True).answer == "I cannot."


def test_thoughts_with_a_fence_of_code_that_nothing_closes_still_end() -> None:
    assert split_thinking("Code:\n```py\nx\n</think>\nSure.", opened=True).answer == "Sure."


def test_a_template_may_open_a_channel() -> None:
    opened = "<|start|>assistant<|channel|>analysis<|message|>"
    assert ends_in_thoughts(opened) and not ends_in_thoughts(opened.replace("analysis", "final"))
    assert (
        split_thinking("I cannot.<|end|><|start|>assistant<|channel|>final<|message|>Sure.", opened=True).answer
        == "Sure."
    )
    assert split_thinking("I cannot.assistantfinalSure.", opened=True)[:2] == ("I cannot.", "Sure.")
