"""The switch by which a chat template turns thinking on and off, found by rendering, and set for every later render.

1. The variables that a template asks its caller for (`jinja2.meta.find_undeclared_variables`), those that speak of thinking.
2. A variable is the switch where two of its values render a chat differently: true and false, or words that the template
   itself compares it with. A variable that is only written out (an amount of effort) is none.
3. Which value thinks is told by the renderings where one ends in thoughts, opened or closed; otherwise by the variable's name.
4. A chosen value is set in front of the template, so that everything that renders agrees, whatever it passes.

What this cannot see: switches that are words of a system prompt (`/no_think`).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import NamedTuple, TypeAlias, cast

import jinja2
from jinja2 import meta, nodes
from jinja2.ext import Extension
from jinja2.parser import Parser
from transformers import PreTrainedTokenizerBase

from refusal_lens.core.thought_marks import CLOSING, ends_in_thoughts
from refusal_lens.errors import ModelError

DATE = "26 Jul 2024"
UNRENDERABLE = (
    jinja2.TemplateError,
    TypeError,
    ValueError,
    LookupError,
    AttributeError,
    RecursionError,
    ArithmeticError,
    MemoryError,
)
"""What a foreign template can raise while it is rendered in the sandbox."""
THINKING = ("auto", "on", "off")
PROBE = "What is 7 + 5?"
_NAME = re.compile(r"think|thought|reason", re.IGNORECASE)
_INVERTED = re.compile(r"(?:^|_)(?:no|non|not|disable|disabled|skip|without|hide|suppress)(?:_|(?=think|reason))")
_OFF_WORDS = ("off", "none", "no", "false", "disabled", "disable", "no_think", "nothink", "non-thinking", "chat")
_ON_WORDS = ("on", "true", "yes", "enabled", "enable", "think", "thinking", "high", "medium", "low")

Value: TypeAlias = bool | str


class Switch(NamedTuple):
    """A template's own switch.

    Attributes:
        name: Its variable.
        on: The value with which the model thinks.
        off: The value with which it does not.
        default: What the template does without a value: "on", "off", or None where that is a third thing.
    """

    name: str
    on: Value
    off: Value
    default: str | None


class _Generation(Extension):
    """Transformers' own block around an assistant's words: parsed, of no interest here."""

    tags = {"generation"}  # noqa: RUF012 (jinja2 declares it so)

    def parse(self, parser: Parser) -> list[nodes.Node]:
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


def find_switch(tokenizer: PreTrainedTokenizerBase) -> Switch | None:
    """Find the variable that turns thinking on and off.

    Args:
        tokenizer: Tokenizer with a chat template.

    Returns:
        The switch, or None where the template has none.
    """
    chat = [{"role": "user", "content": PROBE}]
    apply = cast("Callable[..., object]", tokenizer.apply_chat_template)

    def rendered(values: dict[str, Value]) -> str:
        given = {"add_generation_prompt": True, "tokenize": False, "date_string": DATE, **values}
        return str(apply(chat, **given))

    environment = jinja2.Environment(
        extensions=["jinja2.ext.loopcontrols", _Generation], trim_blocks=True, lstrip_blocks=True, autoescape=False
    )
    try:
        tree = environment.parse(str(tokenizer.chat_template))
        asked = meta.find_undeclared_variables(environment.parse(str(tokenizer.chat_template)))  # it changes its tree
        names = [name for name in asked if _NAME.search(name)]
        plain = rendered({})
    except UNRENDERABLE:
        return None
    for name in sorted(names, key=lambda name: (not name.startswith("enable"), name)):
        for first, second in _pairs(tree, name):
            try:
                texts = rendered({name: first}), rendered({name: second})
            except UNRENDERABLE:
                continue
            if _differ(texts, first, second):
                on, off = (second, first) if _first_is_off(name, *texts) else (first, second)
                default = {rendered({name: off}): "off", rendered({name: on}): "on"}.get(plain)
                return Switch(name, on, off, default)
    return None


def set_thinking(tokenizer: PreTrainedTokenizerBase, thinking: str) -> None:
    """Turn thinking on or off for every later render of a tokenizer's chat template.

    Args:
        tokenizer: Tokenizer with a chat template; its template is changed.
        thinking: "on", "off", or "auto" for what the template does by itself.

    Raises:
        ModelError: Another word, or the template has no switch.
    """
    if thinking not in THINKING:
        raise ModelError(f"thinking {thinking!r}: give {', '.join(THINKING)}")
    if thinking == "auto":
        return
    found = find_switch(tokenizer)
    if found is None:
        raise ModelError(
            f"--thinking {thinking}: the chat template has no switch for thinking; leave the option out, or write the switch "
            "into a template of your own and give that with --chat-template FILE"
        )
    value = found.on if thinking == "on" else found.off
    written = str(value).lower() if isinstance(value, bool) else repr(value)
    # The line end is taken away by trim_blocks: the template's own first characters stay as they are.
    tokenizer.chat_template = f"{{% set {found.name} = {written} %}}\n{tokenizer.chat_template}"


def _pairs(tree: nodes.Template, name: str) -> Iterator[tuple[Value, Value]]:
    """Pairs (on, off) of values that a variable may take: true and false, then words that it is compared with."""
    yield True, False
    compared = _compared(tree, name)
    off = next((word for word in compared if word.lower() in _OFF_WORDS), "off")
    on = [word for word in compared if word.lower() not in _OFF_WORDS]
    on.sort(key=lambda word: _ON_WORDS.index(word.lower()) if word.lower() in _ON_WORDS else len(_ON_WORDS))
    if compared:
        yield from ((word, off) for word in dict.fromkeys((*on, "on", "high")))


def _compared(tree: nodes.Template, name: str) -> list[str]:
    """Words that a template compares a variable with."""
    found: list[str] = []
    for compare in tree.find_all(nodes.Compare):
        if any(part.name == name for part in compare.find_all(nodes.Name)):
            found += [part.value for part in compare.find_all(nodes.Const) if isinstance(part.value, str)]
    return found


def _differ(texts: tuple[str, str], first: Value, second: Value) -> bool:
    """Whether two renderings differ by more than the value itself written out."""
    return texts[0] != texts[1] and texts[0].replace(str(first), str(second)) != texts[1]


def _first_is_off(name: str, first: str, second: str) -> bool:
    """Whether the first of two renderings is the one that does not think."""
    states = _state(first), _state(second)
    if states[0] != states[1]:
        return states[0] > states[1]
    return bool(_INVERTED.search(name.lower()))


def _state(text: str) -> int:
    """How a prompt ends: 0 inside opened thoughts, 1 with neither, 2 behind closed ones."""
    if ends_in_thoughts(text):
        return 0
    return 2 if any(not text[mark.end() :].strip() for pattern in CLOSING for mark in pattern.finditer(text)) else 1
