"""`python -m bench.gpu --out DIR`: generation, sweep and extraction on one GPU at the shape of a 7B model, against its floor.

Random weights in bfloat16 are made on the device (`--shape 7b`, Qwen2.5-7B); where there is no GPU a tiny shape runs in float32
(`--shape tiny`), which shows that everything runs and says nothing of speed. The floor of a decoding step is what nothing can
beat: weights, keys and values once through memory at the measured copy rate, or its products at the measured rate of large
ones, whichever takes longer. Projections take every answer at the full length: an upper bound.

Writes DIR/gpu.json (device, generation, sweep, extraction, projection) and DIR/gpu.md, after every part.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

import torch
import transformers
from transformers import PreTrainedModel, Qwen2Config, Qwen2ForCausalLM

from bench import published
from bench.models import Material, _tokenizer, material, shared_folder
from refusal_lens.directions import Candidates, extract, score
from refusal_lens.interventions import Ablation
from refusal_lens.model import Engine, LensModel, ModelProvenance, assemble, generate

ShapeName = Literal["7b", "tiny"]
SHAPES: dict[ShapeName, dict[str, int]] = {
    "7b": {
        "hidden_size": 3584,
        "num_hidden_layers": 28,
        "num_attention_heads": 28,
        "num_key_value_heads": 4,
        "intermediate_size": 18944,
        "vocab_size": 152064,
    },
    "tiny": {
        "hidden_size": 64,
        "num_hidden_layers": 4,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "intermediate_size": 128,
        "vocab_size": 9000,
    },
}
BATCHES: dict[ShapeName, tuple[int, int]] = {"7b": (128, 512), "tiny": (2, 4)}
TOKENS: dict[ShapeName, tuple[int, int]] = {"7b": (32, 256), "tiny": (2, 8)}
"""Lengths of two runs; a step is their difference, so that prompts and recording do not count."""
LAUNCHED_TOKENS: dict[ShapeName, tuple[int, int]] = {"7b": (8, 40), "tiny": (2, 8)}
"""The same for loops that launch every operation: at 90 ms a step there is no time for more."""
PROMPTS: dict[ShapeName, tuple[int, int]] = {"7b": (128, 32), "tiny": (4, 2)}
SAMPLED = 3
LANGUAGES, ROW_PROMPTS, ANSWER_TOKENS, DIRECTIONS = 14, 572, 512, 14


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


def build(shape: ShapeName, device: torch.device) -> LensModel:
    """A model of a shape with random weights that never ends an answer."""
    tokenizer = _tokenizer(None)
    config = Qwen2Config(
        **SHAPES[shape],
        max_position_embeddings=32768,
        tie_word_embeddings=False,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    dtype = torch.float32 if device.type == "cpu" else torch.bfloat16
    torch.manual_seed(0)
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        with device:
            network: PreTrainedModel = Qwen2ForCausalLM(config)
    finally:
        torch.set_default_dtype(before)
    name = f"random:{shape}"
    known = ModelProvenance(name, None, name, type(network).__name__, str(dtype)[6:], str(device), name)
    model = assemble(network, tokenizer, provenance=known)
    model.end_ids = ()
    return model


def rates(device: torch.device, dtype: torch.dtype, *, size: int) -> tuple[float, float]:
    """Bytes per second of a copy (read and written) and operations per second of large products, measured."""
    one = torch.ones(size * size * 8, dtype=torch.float32, device=device)
    two = torch.empty_like(one)
    left, right = (torch.ones(size, size, dtype=dtype, device=device) for _ in range(2))

    def best(work: Callable[[], object]) -> float:
        taken: list[float] = []
        for _ in range(5):
            if device.type == "cuda":
                torch.cuda.synchronize()
            begun = time.perf_counter()
            work()
            if device.type == "cuda":
                torch.cuda.synchronize()
            taken.append(time.perf_counter() - begun)
        return min(taken)

    return 2 * one.nbytes / best(lambda: two.copy_(one)), 2 * size**3 / best(lambda: left @ right)


def generation(bench: Bench) -> list[dict[str, object]]:
    """Every mode at every batch size; our plain loop and transformers' own generate at the smaller one."""
    rows: list[dict[str, object]] = []
    texts = [*bench.prompts.harmful_train, *bench.prompts.harmless_train, *bench.prompts.harmful_val] * 4
    vectors = torch.randn(max(BATCHES[bench.shape]), bench.model.d_model, generator=torch.Generator().manual_seed(1))

    def ours(chosen: Sequence[str], engine: Engine, **options: object) -> Callable[[int], object]:
        return lambda tokens: generate(
            bench.model, chosen, max_new_tokens=tokens, batch_size=len(chosen), engine=engine, **options
        )

    for batch in BATCHES[bench.shape]:
        chosen = texts[:batch]
        modes: list[tuple[str, str, Callable[[int], object]]] = [
            ("hf", "plain", ours(chosen, Engine("hf"))),
            ("hf", "folded", ours(chosen, Engine("hf"), interventions=[Ablation(vectors[0])])),
            ("hf", "hooks", ours(chosen, Engine("hf"), interventions=[Ablation(vectors[0])], fold="never")),
            ("hf", "mixed directions", ours(chosen, Engine("hf"), interventions=[Ablation(vectors[:batch])])),
        ]
        if batch == min(BATCHES[bench.shape]):
            modes += [
                ("hf --plain", "plain", ours(chosen, Engine("hf", plain=True))),
                ("transformers generate", "plain", _transformers(bench.model, chosen)),
            ]
        width = max(len(ids) for ids in bench.model.render(chosen))
        for engine, mode, work in modes:
            lengths = TOKENS if engine == "hf" else LAUNCHED_TOKENS
            short, long = lengths[bench.shape]
            work(2)
            first, second = bench.seconds(lambda: work(short)), bench.seconds(lambda: work(long))  # noqa: B023 (called here)
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
    return rows


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


def extraction(bench: Bench) -> tuple[dict[str, float], Candidates]:
    """Seconds for the candidates of both classes, ours and published, medians of three."""
    prompts, model = bench.prompts, bench.model
    found: list[Candidates] = []

    def theirs() -> None:
        for part in (prompts.harmful_train, prompts.harmless_train):
            published.mean_activations(model.hf, model.tokenizer, part, model.positions)

    def ours() -> None:
        found.append(extract(model, prompts.harmful_train, prompts.harmless_train))

    times = [(bench.seconds(ours), bench.seconds(theirs)) for _ in range(4)][1:]
    return {
        "ours": round(statistics.median(time[0] for time in times), 4),
        "published": round(statistics.median(time[1] for time in times), 4),
    }, found[0]


def sweep(bench: Bench, candidates: Candidates) -> dict[str, float]:
    """Seconds of the sweep over all candidates: ours cold, and the published one scaled from a few candidates."""
    model, prompts, tokens = bench.model, bench.prompts, [5, 6]

    def ours(**options: object) -> float:
        return bench.seconds(
            lambda: score(
                model, candidates, prompts.harmful_val, prompts.harmless_val, refusal_tokens=tokens, **options
            )
        )

    found = {"exact": ours(), "pruned": ours(prune=True), "race": ours(mode="race")}
    before = published.last_logits(model.hf, model.tokenizer, prompts.harmless_val)
    sites = [(model.positions[-1], 1 + layer * (model.n_layers - 1) // SAMPLED) for layer in range(SAMPLED)]
    each = [
        bench.seconds(
            lambda: published.candidate_scores(
                model.hf,
                model.tokenizer,
                candidates.vector(*site),  # noqa: B023 (called here)
                site[1],  # noqa: B023
                prompts.harmful_val,
                prompts.harmless_val,
                tokens,
                before,
            )
        )
        for site in sites
    ]
    found["published"] = statistics.median(each) * len(candidates.sites())
    return {name: round(value, 3) for name, value in found.items()}


def projection(rows: Sequence[dict[str, object]]) -> dict[str, object]:
    """Minutes of a row of Figure 1 and of the 14 x 15 matrix (baseline and 14 ablations in every language), by engine.

    At the rate of the largest batch that was measured, every answer 512 tokens long.
    """
    one = LANGUAGES * ROW_PROMPTS * ANSWER_TOKENS
    found: dict[str, object] = {
        "is": f"{LANGUAGES} languages x {ROW_PROMPTS} prompts, {ANSWER_TOKENS} tokens an answer, no answer ends early; minutes"
    }
    for engine in dict.fromkeys(str(row["engine"]) for row in rows):
        best: dict[str, float] = {}
        for row in rows:
            if row["engine"] == engine:
                best[str(row["mode"])] = float(str(row["tokens_per_s"]))
        plain, folded = best["plain"], best.get("folded", best["plain"])
        mixed = best.get("mixed directions", best["plain"])
        found[engine] = {
            "figure1_row": round(one / plain / 60 + one / folded / 60, 2),
            "matrix_14x15": round(one / plain / 60 + DIRECTIONS * one / mixed / 60, 2),
        }
    largest = max((row for row in rows if row["engine"] == "hf"), key=lambda row: int(str(row["batch"])))
    rate = int(str(largest["batch"])) / float(str(largest["floor_ms"])) * 1e3
    found["floor"] = {
        "figure1_row": round(2 * one / rate / 60, 2),
        "matrix_14x15": round((1 + DIRECTIONS) * one / rate / 60, 2),
    }
    return found


def table(found: dict[str, object]) -> str:
    """The measurements as Markdown."""
    lines = [f"Device: {json.dumps(found.get('device'))}", ""]
    names = ("engine", "mode", "batch", "tokens_per_s", "step_ms", "floor_ms")
    rows = found.get("generation", [])
    assert isinstance(rows, list)
    lines += ["| " + " | ".join(names) + " |", "|" + "---|" * len(names)]
    lines += ["| " + " | ".join(str(row[name]) for name in names) + " |" for row in rows]
    for part in ("sweep", "extraction", "projection"):
        values = found.get(part)
        if isinstance(values, dict):
            lines += ["", f"| {part} | |", "|---|---|", *(f"| {name} | {value} |" for name, value in values.items())]
    return "\n".join(lines) + "\n"


def main() -> None:
    """Measure everything, cheapest first."""
    parser = argparse.ArgumentParser(prog="python -m bench.gpu", description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="folder of the results")
    parser.add_argument("--shape", choices=sorted(SHAPES), default=None, help="default: 7b on a GPU, tiny without one")
    options = parser.parse_args()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    shape: ShapeName = options.shape or ("7b" if device.type == "cuda" else "tiny")
    run(options.out, shape, device)


def run(out: Path, shape: ShapeName, device: torch.device) -> dict[str, object]:
    """Measure a shape on a device and return what was written."""
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
        bench = Bench(out, shape, model, parts, copy_rate, product_rate)
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
            "prompts": whole.origin if shared_folder() else "generated sentences",
            "date": datetime.now(UTC).date().isoformat(),
        }
        bench.keep("device", facts)
        rows = generation(bench)
        seconds, candidates = extraction(bench)
        bench.keep("sweep", sweep(bench, candidates))
        bench.keep("extraction", seconds)
        bench.keep("projection", projection(rows))
    print(table(bench.found))
    print(f"# written to {out} in {time.perf_counter() - begun:.0f} s")
    return bench.found


if __name__ == "__main__":
    main()
