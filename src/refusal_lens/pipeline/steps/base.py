"""Step `base`: cosines between languages in an unaligned base model, the null that a cosine must be read against.

A base model that refuses nothing reached cosines of 0.75 between languages; only what alignment adds to that can be about
refusal. The base answers the audited model's own chat template, because base models seldom have one.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import cast

import numpy as np

from refusal_lens.errors import ModelError
from refusal_lens.geometry import cosine_matrix
from refusal_lens.model import LensModel, load_model, record
from refusal_lens.pipeline.steps.activations import site_of
from refusal_lens.pipeline.steps.intake import FILE, read_prompts
from refusal_lens.pipeline.tabular import INTEGER, REAL, TEXT, Row, schema, write_table
from refusal_lens.pipeline.workshop import Job
from refusal_lens.types import HARMS

BASE = schema(layer=INTEGER, language_a=TEXT, language_b=TEXT, cosine=REAL)


def base(job: Job) -> None:
    """Extract the base model's directions at the selected position and compare the languages."""
    model = _load(job)
    count = cast("int", job.task.params["prompts"])
    position = site_of(job).position
    directions: dict[str, np.ndarray] = {}
    for task_id in job.inputs_of("prompts"):
        means: list[np.ndarray] = []
        for harm in HARMS:
            texts = [item.text for item in read_prompts(job.input(task_id, FILE), harm=harm, split="train")][:count]
            total = np.zeros((model.n_layers, model.d_model))
            for _, seen in record(model, texts, positions=[position], batch_size=job.shop.config.transport.batch_size):
                total += seen[:, 0].double().sum(0).cpu().numpy()
            if texts:
                means.append(total / len(texts))
        if len(means) == len(HARMS):
            directions[task_id.removeprefix("prompts/").removesuffix(".select")] = means[0] - means[1]
    codes = list(directions)
    rows: list[Row] = []
    for layer in range(model.n_layers) if codes else ():
        cosines = cosine_matrix(np.stack([directions[code][layer] for code in codes])).tolist()
        rows += [
            {"layer": layer, "language_a": one, "language_b": two, "cosine": cosines[i][j]}
            for i, one in enumerate(codes)
            for j, two in enumerate(codes)
        ]
    write_table(job.folder, "base", rows, BASE)


def _load(job: Job) -> LensModel:
    spec = str(job.task.params["base"])
    config = job.shop.config
    template = job.shop.model.tokenizer.chat_template
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "chat_template.jinja"
        path.write_text(str(template), encoding="utf-8")
        found = load_model(
            spec,
            device=config.transport.device,
            dtype=config.model.dtype,
            chat_template=path,
            trust_remote_code=config.model.trust_remote_code,
        )
    if found.n_layers != job.shop.model.n_layers:
        raise ModelError(
            f"--base {spec} has {found.n_layers} layers, the audited model {job.shop.model.n_layers}: not its base model"
        )
    return found
