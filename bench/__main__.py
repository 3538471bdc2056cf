"""`make bench`: one line per measurement, and the same as JSON in bench/results/.

Seconds are processor seconds of one thread (wall seconds beside them); ratio is baseline over ours. Options choose the
models and the parts; everything is seeded, so that two runs differ only by the load on the machine.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import tempfile
from datetime import UTC, datetime
from pathlib import Path

PARTS = ("extraction", "sweep", "generation", "memory")


def main() -> None:
    """Run the measurements that were asked for."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--models", default="small,deep,large", help="comma-separated: small, deep, large")
    parser.add_argument("--parts", default=",".join(PARTS), help=f"comma-separated: {', '.join(PARTS)}")
    parser.add_argument("--repeats", type=int, default=3, help="interleaved repetitions of extraction and generation")
    parser.add_argument("--whole", action="store_true", help="run all candidates of the large model too (an hour)")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path, default=None, help="result file; default bench/results/<machine>.json")
    options = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = str(options.threads)

    import torch
    import transformers
    from transformers.utils import logging as transformers_logging

    from bench.generation import generation_lines
    from bench.measure import Line
    from bench.memory import memory_lines
    from bench.models import REPOSITORY, material, model_folder
    from bench.sweep import extraction_line, refusal_tokens, sweep_lines
    from refusal_lens.model import load_model

    transformers_logging.disable_progress_bar()
    torch.set_num_threads(options.threads)
    prompts = material()
    parts = options.parts.split(",")
    lines: list[Line] = []
    what: dict[str, str] = {}

    def say(line: Line) -> None:
        lines.append(line)
        print(line.text(), flush=True)

    with tempfile.TemporaryDirectory() as scratch, torch.inference_mode():
        for name in options.models.split(","):
            folder, what[name] = model_folder(name, Path(scratch))
            print(f"# {name}: {what[name]}; prompts: {prompts.origin}", flush=True)
            model = load_model(str(folder), dtype="float32", device="cpu")
            line, candidates = extraction_line(name, model, prompts, options.repeats if "extraction" in parts else 1)
            if "extraction" in parts:
                say(line)
            if "sweep" in parts:
                tokens = refusal_tokens(model, prompts)
                for line in sweep_lines(
                    name, model, candidates, prompts, tokens, whole=name != "large" or options.whole
                ):
                    say(line)
            if "generation" in parts:
                for line in generation_lines(name, model, candidates, prompts, options.repeats):
                    say(line)
            if "memory" in parts:
                for line in memory_lines(name, folder):
                    say(line)
    machine = f"{os.cpu_count()}-core {platform.machine()}"
    out = options.out or REPOSITORY / "bench" / "results" / f"cpu-{os.cpu_count()}-core.json"
    out.parent.mkdir(parents=True, exist_ok=True)
    facts = {
        "command": " ".join(["python -m bench", *sys.argv[1:]]),
        "date": datetime.now(UTC).date().isoformat(),
        "machine": machine,
        "load_average": [round(value, 1) for value in os.getloadavg()],
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "threads": options.threads,
        "models": what,
        "prompts": prompts.origin,
        "gpu": "not measured",
    }
    out.write_text(json.dumps({**facts, "lines": [line.record() for line in lines]}, indent=1) + "\n", encoding="utf-8")
    print(f"# written to {out}")


if __name__ == "__main__":
    main()
