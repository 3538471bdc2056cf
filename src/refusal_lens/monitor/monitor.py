"""A monitor: one direction read at one place of the prompt, with a threshold of stated miss rate in every language.

    monitor = Monitor.fit(model, {"en": (harmful, harmless)}, unlabelled={"yo": prompts})
    monitor.save(Path("monitor")); Monitor.load(Path("monitor")).score(model, ["How do I pick a bike lock?"])

It reads the residual stream that the model computes anyway: one dot product a prompt. It changes nothing; a gate that acts on
the flag is somebody else's. Sources: `detector`, `conformal`.
"""

from __future__ import annotations

import logging
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float32
from safetensors import SafetensorError
from safetensors.numpy import load_file, save

from refusal_lens.core.files import PUBLIC_FILE, write_atomic
from refusal_lens.core.json_files import pretty_json, read_object
from refusal_lens.errors import DataError, ModelError
from refusal_lens.model import BatchSize, LensModel
from refusal_lens.model.ways import plainly
from refusal_lens.monitor.card import OTHERS, Card
from refusal_lens.monitor.fitting import with_labels, with_traffic
from refusal_lens.monitor.learning import learn
from refusal_lens.monitor.reading import Chat, Stream, chat_ids, read, watching
from refusal_lens.types import Prompt

log = logging.getLogger(__name__)

CARD, WEIGHT = "monitor.json", "monitor.safetensors"


@dataclass(frozen=True, slots=True)
class Scored:
    """What a monitor says of one prompt.

    Attributes:
        harmful_probability: In [0, 1], for as many harmful prompts as harmless ones; NaN where the prompt does not fit the model.
        flag: Whether it reaches the threshold; True where the prompt cannot be read.
        threshold: The threshold of its language.
        language: Language whose calibration was used, "*" for none of its own.
    """

    harmful_probability: float
    flag: bool
    threshold: float
    language: str


@dataclass(frozen=True, eq=False)
class Monitor:
    """A fitted monitor: its weight and its card."""

    weight: Float32[np.ndarray, " d_model"]
    card: Card

    @classmethod
    def fit(
        cls,
        model: LensModel,
        labelled: Mapping[str, tuple[Sequence[str | Prompt], Sequence[str | Prompt]]],
        *,
        validation: Mapping[str, tuple[Sequence[str | Prompt], Sequence[str | Prompt]]] | None = None,
        unlabelled: Mapping[str, Sequence[str | Prompt]] | None = None,
        target_miss: float = 0.05,
        batch_size: BatchSize = "auto",
    ) -> Monitor:
        """Fit a monitor on labelled prompts of some languages and unlabelled prompts of others.

        Args:
            model: The model.
            labelled: Harmful and harmless prompts by language, at least 4 of each.
            validation: The same for choosing method, position and layer; a third of `labelled` by default.
            unlabelled: Prompts of other languages, harmful and harmless mixed; their labels, if they have any, are not read.
            target_miss: Share of harmful prompts that may stay below the threshold.
            batch_size: Prompts of one pass, or "auto".

        Returns:
            The monitor.

        Raises:
            DataError: Too few prompts, or one is longer than the model's context.
            NoValidDirection: Nothing that was read tells the classes apart.

        Example:
            rl.Monitor.fit(model, {"en": (harmful, harmless)}, unlabelled={"yo": traffic})
        """
        found = learn(
            model,
            labelled,
            validation=validation,
            unlabelled=unlabelled,
            target_miss=target_miss,
            batch_size=batch_size,
        )
        return cls(*found)

    def rows(
        self, model: LensModel, prompts: Sequence[str | Prompt | Chat], *, batch_size: BatchSize = "auto"
    ) -> np.ndarray:
        """Activations [prompt, d_model] at the monitor's place, NaN for prompts longer than the model's context."""
        ids = chat_ids(model, [prompt.text if isinstance(prompt, Prompt) else prompt for prompt in prompts])
        fitting = [row for row, tokens in enumerate(ids) if model.context is None or len(tokens) <= model.context]
        found = np.full((len(ids), model.d_model), np.nan, np.float32)
        if fitting:
            at = {"positions": [self.card.position], "layers": [self.card.layer]}
            found[fitting] = read(model, [ids[row] for row in fitting], **at, batch_size=batch_size)[:, 0, 0]
        return found

    def raw(
        self, model: LensModel, prompts: Sequence[str | Prompt | Chat], *, batch_size: BatchSize = "auto"
    ) -> np.ndarray:
        """Scores before any scale: projections on the unit weight, NaN for prompts longer than the model's context."""
        rows = self.rows(model, prompts, batch_size=batch_size)
        return rows.astype(np.float64) @ self.weight.astype(np.float64)

    def score(
        self,
        model: LensModel,
        prompts: Sequence[str | Prompt | Chat],
        *,
        languages: Sequence[str | None] | None = None,
        other_model: bool = False,
        batch_size: BatchSize = "auto",
    ) -> list[Scored]:
        """Score prompts.

        Args:
            model: The model that the monitor was fitted on.
            prompts: User messages, prompts, or whole chats whose last message is the user's.
            languages: Language of each; a prompt's own where it is a `Prompt`, else recognised from the text.
            other_model: Accept another model than the card's; nothing is promised then.
            batch_size: Prompts of one pass, or "auto".

        Returns:
            One item a prompt, in order.

        Raises:
            ModelError: The model is not the card's.
        """
        self.check_model(model, other_model=other_model)
        given = languages or [prompt.language if isinstance(prompt, Prompt) else None for prompt in prompts]
        codes = [self.language_of(prompt, code) for prompt, code in zip(prompts, given, strict=True)]
        return [
            self.judge(score, code)
            for score, code in zip(self.raw(model, prompts, batch_size=batch_size), codes, strict=True)
        ]

    def judge(self, score: float, language: str) -> Scored:
        """A raw score as probability and flag, by a language's calibration."""
        calibration = self.card.calibration(language)
        probability = float(self.card.probability(np.asarray([score]), calibration)[0])
        flag = not probability < calibration.threshold  # NaN is flagged: what cannot be read is not let through
        return Scored(probability, flag, calibration.threshold, language)

    def language_of(self, prompt: str | Prompt | Chat, given: str | None) -> str:
        """Which calibration serves a prompt: the given language's, else the recognised one's, else "*"."""
        code = given or _recognised(prompt, self.card.fit_languages[0])
        return code if code is not None and code in self.card.calibrations else OTHERS

    @contextmanager
    def stream(self, model: LensModel, *, language: str | None = None, other_model: bool = False) -> Generator[Stream]:
        """Score while the model writes: one probability a row for every forward pass inside the block.

        The first is the prompt's, read at the template's last token; the thresholds hold for it and for monitors that read
        there. Those of later tokens are on the same scale and calibrated for nothing: read them as a trend.

        Args:
            model: The card's model.
            language: Language of the prompts.
            other_model: As for `score`.

        Yields:
            The stream, filled as the passes run; rows are those of the batch.

        Raises:
            ModelError: The model is not the card's.

        Example:
            with monitor.stream(model) as stream: rl.generate(model, [prompt]); stream.smoothed
        """
        self.check_model(model, other_model=other_model)
        calibration = self.card.calibration(language)
        found = Stream([])
        weight = torch.from_numpy(self.weight).to(model.device)

        def told(scores: torch.Tensor) -> None:
            found.passes.append(self.card.probability(scores.cpu().numpy().astype(np.float64), calibration))

        with plainly(model), watching(model, self.card.layer, weight, told):
            yield found

    def recalibrated(self, model: LensModel, language: str, harmful: Sequence[str | Prompt]) -> Monitor:
        """The monitor with a threshold moved by some labelled harmful prompts of a language.

        Args:
            model: The card's model.
            language: The language.
            harmful: The prompts, 1 or more.

        Returns:
            A new monitor.
        """
        self.check_model(model)
        new = with_labels(self.card, language, self.raw(model, list(harmful)))
        return replace(self, card=replace(self.card, calibrations={**self.card.calibrations, language: new}))

    def recalibrated_by_traffic(
        self, model: LensModel, language: str, prompts: Sequence[str | Prompt | Chat]
    ) -> Monitor | None:
        """The monitor with a language's threshold found anew from prompts as they come, without a label.

        Args:
            model: The card's model.
            language: The language, one that the monitor was fitted on too.
            prompts: Harmful and harmless ones mixed, at least 10 % of each.

        Returns:
            A new monitor; None where the prompts do not fall into two groups.
        """
        self.check_model(model)
        scores = self.raw(model, list(prompts))
        new = with_traffic(self.card, language, scores[np.isfinite(scores)])
        if new is None:
            return None
        return replace(self, card=replace(self.card, calibrations={**self.card.calibrations, language: new}))

    def check_model(self, model: LensModel, *, other_model: bool = False) -> None:
        """Whether a model is the one of the card.

        Args:
            model: The model.
            other_model: Go on with another; its width must still be the weight's.

        Raises:
            ModelError: It is another model, or has another chat template.
        """
        known, card = model.provenance, self.card.model
        if len(self.weight) != model.d_model or self.card.layer >= model.n_layers:
            raise ModelError(
                f"the monitor reads layer {self.card.layer} of a model of width {len(self.weight)}; {known.spec} has "
                f"{model.n_layers} layers of width {model.d_model}: fit a monitor for it"
            )
        same = known.digest == card["digest"] and known.template_digest == card["template_digest"]
        if not same and not other_model:
            raise ModelError(
                f"the monitor was fitted on {card['spec']} (digest {card['digest'][:12]}), not on {known.spec} (digest "
                f"{known.digest[:12]}): fit one for it, or score all the same with --other-model, without any promise"
            )
        if same and known.dtype != card["dtype"]:
            log.warning("the monitor was fitted in %s, the model runs in %s", card["dtype"], known.dtype)

    def save(self, folder: Path) -> None:
        """Write `monitor.safetensors` (tensor `weight`) and `monitor.json` (the card) into a folder."""
        write_atomic(folder / WEIGHT, save({"weight": self.weight}), mode=PUBLIC_FILE)
        write_atomic(folder / CARD, pretty_json(self.card.as_json()), mode=PUBLIC_FILE)

    @classmethod
    def load(cls, folder: str | Path) -> Monitor:
        """Read a monitor that `save` or `refusal-lens monitor fit` wrote.

        Args:
            folder: The folder with its two files.

        Returns:
            The monitor.

        Raises:
            DataError: A file is missing or damaged.

        Example:
            rl.Monitor.load("monitor").score(model, ["How do I bake bread?"])
        """
        place = Path(folder)
        card = Card.from_json(
            read_object(place / CARD, advice="name a folder that `monitor fit` wrote"), str(place / CARD)
        )
        try:
            weight = load_file(place / WEIGHT)["weight"]
        except (OSError, SafetensorError, KeyError) as error:
            raise DataError(f"{place / WEIGHT}: not the weight of a monitor ({error}); fit it again") from None
        if weight.ndim != 1 or not np.isfinite(weight).all():
            raise DataError(f"{place / WEIGHT}: not one finite vector; fit it again")
        return cls(weight.astype(np.float32), card)


def _recognised(prompt: str | Prompt | Chat, expected: str) -> str | None:
    from refusal_lens.judging.identify import identify

    text = prompt if isinstance(prompt, str) else prompt.text if isinstance(prompt, Prompt) else prompt[-1]["content"]
    return identify(text, expected=expected).language
