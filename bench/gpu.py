"""`python -m bench.gpu --out DIR`: generation, sweep and extraction on one GPU at the shape of a 7B model, against its floor.

Random weights in bfloat16 are made on the device (`--shape 7b`, Qwen2.5-7B); where there is no GPU a tiny shape runs in float32
(`--shape tiny`), which shows that everything runs and says nothing of speed. The floor of a decoding step is what nothing can
beat: weights, keys and values once through memory at the measured copy rate, or its products at the measured rate of large
ones, whichever takes longer. Projections take every answer at the full length: an upper bound.

Writes DIR/gpu.json (device, generation, sweep, extraction, projection) and DIR/gpu.md, after every part. What fails is named
there (`failed`), the rest is measured all the same; what would begin after `--minutes` is left out and named likewise.
"""

from __future__ import annotations

import argparse
import json
import logging
import math
import platform
import statistics
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import torch
import transformers

from bench import published
from bench.gpu_report import projection, table
from bench.gpu_shapes import SHAPES, ShapeName, build, rates
from bench.models import Material, material, shared_folder
from refusal_lens.directions import Candidates, extract, score
from refusal_lens.interventions import Ablation
from refusal_lens.model import Engine, LensModel, generate, ways
from refusal_lens.model.decoding import Decoder

BATCHES: dict[ShapeName, tuple[int, int]] = {"7b": (128, 512), "tiny": (2, 4)}
TOKENS: dict[ShapeName, tuple[int, int]] = {"7b": (32, 256), "tiny": (2, 8)}
"""Lengths of two runs; a step is their difference, so that prompts and recording do not count."""
LAUNCHED_TOKENS: dict[ShapeName, tuple[int, int]] = {"7b": (8, 40), "tiny": (2, 8)}
"""The same for loops that launch every operation: at 90 ms a step there is no time for more."""
PROMPTS: dict[ShapeName, tuple[int, int]] = {"7b": (128, 32), "tiny": (4, 2)}
SAMPLED = 3


@dataclass
class Bench:
    """A model, its prompts and what was measured."""

    out: Path
    shape: ShapeName
    model: LensModel
    prompts: Material
    copy_rate: float
    product_rate: float
    found: dict[str, object] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)
    ends: float = math.inf

    def attempt(self, what: str, work: Callable[[], object]) -> object:
        """Measure something; where it fails, or the time is over, say so and go on: a machine is lent for minutes."""
        if time.perf_counter() > self.ends:
            self.failed[what] = "left out: the time is over"
        else:
            try:
                return work()
            except Exception as error:  # noqa: BLE001  whatever it is, the other numbers are worth having
                traceback.print_exc()
                self.failed[what] = f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"
        print(f"{what}: {self.failed[what]}", flush=True)
        self.keep("failed", self.failed)
        return None

    def keep(self, part: str, value: object) -> None:
        """Note a part and write everything so far."""
        self.found[part] = value
        self.out.mkdir(parents=True, exist_ok=True)
        (self.out / "gpu.json").write_text(json.dumps(self.found, indent=1) + "\n", encoding="utf-8")
        (self.out / "gpu.md").write_text(table(self.found), encoding="utf-8")

    def seconds(self, work: Callable[[], object]) -> float:
        """Wall time of one call, the device's work included."""
        self._wait()
        begun = time.perf_counter()
        work()
        self._wait()
        return time.perf_counter() - begun

    def texts(self, count: int) -> list[str]:
        """So many prompts, some of them twice where there are too few."""
        prompts = [*self.prompts.harmful_train, *self.prompts.harmless_train, *self.prompts.harmful_val]
        return (prompts * (1 + count // len(prompts)))[:count]

    def _wait(self) -> None:
        if self.model.device.type == "cuda":
            torch.cuda.synchronize()

    def floor_ms(self, rows: int, columns: float) -> float:
        """What a decoding step of so many rows and columns takes at least, in milliseconds."""
        weights = [weight for weight in self.model.hf.parameters() if weight.ndim == 2]
        embedding = next(self.model.layout.embedding.parameters())
        products = sum(weight.numel() for weight in weights) - embedding.numel()
        config = self.model.hf.config
        width = config.hidden_size // config.num_attention_heads
        per_token = 2 * config.num_hidden_layers * config.num_key_value_heads * width
        moved = (products + rows * columns * per_token) * self.model.dtype.itemsize
        return 1e3 * max(moved / self.copy_rate, 2 * products * rows / self.product_rate)


Mode = tuple[str, str, Callable[[int], object]]


def _modes(bench: Bench, batch: int, *, launched: bool) -> list[Mode]:
    """What writes answers to a batch: our repeated steps, or the loops that launch every operation."""
    chosen = bench.texts(batch)
    vectors = torch.randn(batch, bench.model.d_model, generator=torch.Generator().manual_seed(1))

    def ours(engine: Engine, **options: object) -> Callable[[int], object]:
        return lambda tokens: generate(
            bench.model, chosen, max_new_tokens=tokens, batch_size=len(chosen), engine=engine, **options
        )

    if launched:
        return [
            ("hf --plain", "plain", ours(Engine("hf", plain=True))),
            ("transformers generate", "plain", _transformers(bench.model, chosen)),
        ]
    return [
        ("hf", "plain", ours(Engine("hf"))),
        ("hf", "folded", ours(Engine("hf"), interventions=[Ablation(vectors[0])])),
        ("hf", "mixed directions", ours(Engine("hf"), interventions=[Ablation(vectors)])),
        ("hf", "hooks", ours(Engine("hf"), interventions=[Ablation(vectors[0])], fold="never")),
    ]


def generation(bench: Bench, batch: int, rows: list[dict[str, object]], *, launched: bool = False) -> None:
    """Measure every mode at a batch size, and append each to the rows.

    A repeated step is recorded at its first runs, which a long audit does not notice: a whole run goes before the timed ones.
    """
    short, long = (LAUNCHED_TOKENS if launched else TOKENS)[bench.shape]
    width = max(len(ids) for ids in bench.model.render(bench.texts(batch)))

    def measure(engine: str, mode: str, work: Callable[[int], object]) -> None:
        work(2 if launched else long)
        first, second = bench.seconds(lambda: work(short)), bench.seconds(lambda: work(long))
        row: dict[str, object] = {
            "engine": engine,
            "mode": mode,
            "batch": batch,
            "tokens_per_s": round(batch * long / second, 1),
            "step_ms": round(1e3 * max(0.0, second - first) / (long - short), 3),
            "floor_ms": round(bench.floor_ms(batch, width + (short + long) / 2), 4),
        }
        rows.append(row)
        print(row, flush=True)
        bench.keep("generation", rows)

    for engine, mode, work in _modes(bench, batch, launched=launched):
        bench.attempt(f"{engine}, {mode}, batch {batch}", partial(measure, engine, mode, work))


def _transformers(model: LensModel, chosen: Sequence[str]) -> Callable[[int], object]:
    def work(tokens: int) -> object:
        batch = model.batch(model.render(chosen))
        mask = torch.ones_like(batch.input_ids) if batch.attention_mask is None else batch.attention_mask
        return model.hf.generate(
            input_ids=batch.input_ids,
            attention_mask=mask,
            max_new_tokens=tokens,
            min_new_tokens=tokens,
            do_sample=False,
            pad_token_id=model.pad_id,
        )

    return work


def extraction(bench: Bench) -> Candidates:
    """Seconds for the candidates of both classes, ours and published, medians of three."""
    prompts, model = bench.prompts, bench.model
    found: list[Candidates] = []

    def theirs() -> None:
        for part in (prompts.harmful_train, prompts.harmless_train):
            published.mean_activations(model.hf, model.tokenizer, part, model.positions)

    def ours() -> None:
        found.append(extract(model, prompts.harmful_train, prompts.harmless_train))

    def measure() -> None:
        times = [(bench.seconds(ours), bench.seconds(theirs)) for _ in range(4)][1:]
        medians = [round(statistics.median(column), 4) for column in zip(*times, strict=True)]
        bench.keep("extraction", dict(zip(("ours", "published"), medians, strict=True)))

    bench.attempt("extraction", measure)
    if not found:
        raise RuntimeError("no directions were extracted")
    return found[0]


def sweep(bench: Bench, candidates: Candidates) -> None:
    """Seconds of the sweep over all candidates: ours cold, and the published one scaled from a few candidates."""
    model, prompts, tokens = bench.model, bench.prompts, [5, 6]
    found: dict[str, float] = {}

    def ours(name: str, **options: object) -> None:
        def work() -> None:
            score(model, candidates, prompts.harmful_val, prompts.harmless_val, refusal_tokens=tokens, **options)

        found[name] = round(bench.seconds(work), 3)
        bench.keep("sweep", found)

    def theirs() -> None:
        before = published.last_logits(model.hf, model.tokenizer, prompts.harmless_val)
        each: list[float] = []
        for layer in (1 + index * (model.n_layers - 1) // SAMPLED for index in range(SAMPLED)):
            direction = candidates.vector(model.positions[-1], layer)
            asked = (direction, layer, prompts.harmful_val, prompts.harmless_val, tokens, before)
            each.append(bench.seconds(partial(published.candidate_scores, model.hf, model.tokenizer, *asked)))
        found["published"] = round(statistics.median(each) * len(candidates.sites()), 3)
        bench.keep("sweep", found)

    bench.attempt("exact sweep", partial(ours, "exact"))
    bench.attempt("published sweep", theirs)
    bench.attempt("pruned sweep", partial(ours, "pruned", prune=True))
    bench.attempt("race", partial(ours, "race", mode="race"))


def main() -> None:
    """Measure everything, cheapest first."""
    parser = argparse.ArgumentParser(prog="python -m bench.gpu", description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="folder of the results")
    parser.add_argument("--shape", choices=sorted(SHAPES), default=None, help="default: 7b on a GPU, tiny without one")
    parser.add_argument("--minutes", type=float, default=5.5, help="begin nothing after so many minutes (default 5.5)")
    options = parser.parse_args()
    try:
        options.out.mkdir(parents=True, exist_ok=True)  # before minutes of a lent machine are gone
    except OSError as error:
        parser.error(f"--out {options.out}: no folder can be made there ({error.strerror})")
    logging.basicConfig(level=logging.WARNING)
    logging.getLogger("refusal_lens").setLevel(logging.INFO)  # why a step cannot be repeated or recorded
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    shape: ShapeName = options.shape or ("7b" if device.type == "cuda" else "tiny")
    if "failed" in (found := run(options.out, shape, device, seconds=60 * options.minutes)):
        raise SystemExit(f"not measured: {json.dumps(found['failed'], indent=1)}")


def run(out: Path, shape: ShapeName, device: torch.device, *, seconds: float = math.inf) -> dict[str, object]:
    """Measure a shape on a device, begin nothing after so many seconds, and return what was written."""
    begun = time.perf_counter()
    with torch.inference_mode():
        model = build(shape, device)
        copy_rate, product_rate = rates(device, model.dtype, size=8192 if device.type == "cuda" else 512)
        train, validation = PROMPTS[shape]
        whole = material()
        parts = Material(
            whole.harmful_train[:train],
            whole.harmless_train[:train],
            whole.harmful_val[:validation],
            whole.harmless_val[:validation],
            whole.origin,
        )
        bench = Bench(out, shape, model, parts, copy_rate, product_rate, ends=begun + seconds)
        name = (
            torch.cuda.get_device_name(device) if device.type == "cuda" else platform.processor() or platform.machine()
        )
        facts = {
            "name": name,
            "type": device.type,
            "shape": shape,
            "dtype": str(model.dtype)[6:],
            "copy_gb_per_s": round(copy_rate / 1e9, 1),
            "product_tflop_per_s": round(product_rate / 1e12, 3),
            "torch": torch.__version__,
            "transformers": transformers.__version__,
            "way": ways.way_of(model),
            "prompts": whole.origin if shared_folder() else "generated sentences",
            "date": datetime.now(UTC).date().isoformat(),
        }
        bench.keep("device", facts)
        rows: list[dict[str, object]] = []
        for batch in BATCHES[shape]:
            generation(bench, batch, rows)
        decoder = model.kept.get("decoder")
        facts["recorded_steps"] = decoder.recorded if isinstance(decoder, Decoder) else 0
        bench.keep("device", facts)
        bench.attempt("directions", lambda: sweep(bench, extraction(bench)))
        generation(bench, min(BATCHES[shape]), rows, launched=True)
        bench.attempt("projection", lambda: bench.keep("projection", projection(rows)))
    print(table(bench.found))
    print(f"# written to {out} in {time.perf_counter() - begun:.0f} s")
    return bench.found


if __name__ == "__main__":
    main()
