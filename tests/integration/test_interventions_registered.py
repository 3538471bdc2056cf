"""Interventions by registration: a new one and several kinds of ablation in one run, from the audit to the page."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from refusal_lens import open_run
from refusal_lens.cli.settings import interventions_of
from refusal_lens.config import AuditConfig, parse_config
from refusal_lens.config.settings import Transport
from refusal_lens.core.interventions import DECLARED, Declared, Options
from refusal_lens.directions import Direction
from refusal_lens.errors import DataError, UserError
from refusal_lens.interventions import Ablation, Addition, Given, make, per_row, register
from refusal_lens.interventions.making import MAKERS
from refusal_lens.model import Edit, Intervention, Site
from refusal_lens.pipeline import prepare, run_audit
from refusal_lens.report import build_report


def settings(**interventions: object) -> AuditConfig:
    tree = {
        "model": {"spec": "testbed:aligned"},
        "data": {"languages": ["en"], "limit": 4},
        "directions": {
            "sources": ["en"],
            "n_train": 16,
            "n_val": 6,
            "discovery": 6,
            "mode": "race",
            "random": 1,
            "shuffled": False,
        },
        "interventions": interventions,
        "generation": {"max_new_tokens": 16},
        "geometry": {"enabled": False},
    }
    return parse_config(tree, where="test")


@dataclass(frozen=True)
class GateOptions(Options):
    threshold: float = 0.0
    coefficient: float = 1.0

    def words(self) -> str:
        return f"above {self.threshold}, with coefficient {self.coefficient}"


@dataclass(frozen=True, eq=False)
class Gated:
    """Adds the direction where the stream already points along it by more than a threshold."""

    direction: Tensor
    layer: int
    threshold: float
    coefficient: float

    holds = False

    def at(self, site: Site, layer: int, /) -> Edit | None:
        return self._edit if site == "block_input" and layer == self.layer else None

    def _edit(self, x: Tensor) -> Tensor:
        direction = self.direction.reshape(-1, 1, self.direction.shape[-1]).to(x.device)
        along = (x.float() * direction / direction.norm(dim=-1, keepdim=True).clamp_min(1e-12)).sum(-1, keepdim=True)
        return (x.float() + self.coefficient * direction * (along > self.threshold)).to(x.dtype)

    def after(self, earlier: Sequence[Intervention], /) -> Gated:
        return self

    def rows(self, indices: Sequence[int], /) -> Gated:
        return self if self.direction.ndim == 1 else replace(self, direction=self.direction[list(indices)])

    def fold_direction(self) -> Tensor | None:
        return None

    def share(self, read: Tensor, layer: int, /) -> Tensor:
        return Addition(self.direction, self.layer).share(read, layer)


def made(directions: Sequence[Given], repeats: int, options: GateOptions) -> list[Gated]:
    vectors = per_row([direction.vector for direction in directions], repeats)
    return [Gated(vectors, directions[0].layer, options.threshold, options.coefficient)]


@pytest.fixture
def gated() -> Iterator[None]:
    register(
        Declared(
            name="gated",
            reads_on="harmless",
            done="added at a gate",
            colour="#147a6b",
            options=GateOptions,
            may_rest=True,
        ),
        made,
    )
    yield
    del DECLARED["gated"], MAKERS["gated"]


def test_a_registered_intervention_runs_from_the_audit_to_the_page(gated: None, tmp_path: Path) -> None:
    config = settings(names=["ablation", "affine", "gated"], options={"gated": {"threshold": -1e6}}, coefficient=2.0)
    result = run_audit(prepare(config), tmp_path / "run", command=["test"])
    run = open_run(result.path)
    measured = {(row["intervention"], row["source"], row["prompts"]): row for row in run.rates.to_pylist()}
    assert {name for name, *_ in measured} == {"baseline", "ablation", "affine", "gated"}
    assert ("gated", "random-0", "harmless") in measured and ("gated", "random-0", "harmful") not in measured
    assert measured["gated", "en", "harmless"]["rate"] < measured["baseline", "", "harmless"]["rate"]
    assert {row["intervention"] for row in run.transfer.to_pylist()} == {"ablation", "affine", "gated"}
    assert {row["intervention"] for row in run.table("damage").to_pylist()} == {"ablation", "affine"}
    page = build_report(result.path).read_text("utf-8")
    for shown in ("added at a gate", "With the direction added at a gate, it refuses", "transfer-gated", "#147a6b"):
        assert shown in page, shown
    assert "gated above -1000000.0, with coefficient 2.0" in page, "an option named like a common setting is set by it"
    assert "ablated (affine)" in page and "transfer-affine" in page


@pytest.mark.parametrize("transport", [{"workers": 2}, {"executor": "ray"}, {"store": "file:///tmp/none"}])
def test_workers_that_cannot_know_a_registered_intervention_are_refused_before_they_start(
    gated: None, transport: dict[str, object]
) -> None:
    with pytest.raises(UserError, match=r"gated: registered in this process.*--workers 1"):
        prepare(settings(names=["ablation", "gated"]).model_copy(update={"transport": Transport(**transport)}))


def test_ablation_and_affine_ablation_of_one_run_are_those_of_two_runs() -> None:
    direction = Direction(torch.tensor([3.0, 4.0]), -1, 2, "en", harmless_projection=0.5)
    x = torch.tensor([[1.0, 2.0]])
    (zero,), (affine,) = make("ablation", {}, [direction]), make("affine", {}, [direction])
    (switched,) = make("ablation", {"affine": True}, [direction])
    assert isinstance(zero, Ablation) and isinstance(affine, Ablation) and isinstance(switched, Ablation)
    unit = torch.tensor([0.6, 0.8])
    assert float(zero(x) @ unit) == pytest.approx(0.0, abs=1e-6)
    assert float(affine(x) @ unit) == pytest.approx(0.5, abs=1e-6), "the harmless mean, by hand"
    assert torch.equal(affine(x), switched(x))
    (published,) = make("published", {}, [direction])
    assert isinstance(published, Ablation) and published.variant == "published" and not published.holds
    with pytest.raises(DataError, match=r"random-3.*harmless mean is not known"):
        make("affine", {}, [Direction(torch.ones(4), -1, 2, "random-3")])


def test_directions_of_several_layers_are_added_each_at_its_own() -> None:
    one, two = Direction(torch.ones(4), -1, 2, "en"), Direction(2 * torch.ones(4), -1, 1, "de")
    made_at = make("addition", {"coefficient": 3.0}, [one, two], repeats=2)
    assert [item.layer for item in made_at if isinstance(item, Addition)] == [1, 2]
    assert [item.direction[:, 0].tolist() for item in made_at if isinstance(item, Addition)] == [
        [0, 0, 2, 2],
        [1, 1, 0, 0],
    ]


def test_every_declared_intervention_can_be_made_with_its_defaults() -> None:
    assert list(DECLARED) == list(MAKERS)
    direction = Direction(torch.ones(4), -1, 2, "en", harmless_projection=0.5)
    for name, declared in DECLARED.items():
        assert make(name, {}, [direction]), name
        assert isinstance(declared.options().words(), str)


def test_names_and_options_follow_the_switches_or_replace_them() -> None:
    assert settings().interventions.chosen == {
        "ablation": {"variant": "exact", "affine": False},
        "addition": {"coefficient": 1.0},
    }
    switched = settings(ablation=False, coefficient=0.5).interventions
    assert switched.chosen == {"addition": {"coefficient": 0.5}}
    named = settings(**interventions_of("affine,addition:coefficient=2"), variant="published").interventions
    assert named.chosen == {"affine": {"variant": "published"}, "addition": {"coefficient": 2.0}}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("abblation", "no intervention is named 'abblation'; did you mean 'ablation'"),
        ("baseline", "no intervention is named 'baseline'"),
        ("ablation,ablation", "each intervention runs once"),
        ("addition:coeficient=2", "addition has no option 'coeficient'; did you mean 'coefficient'"),
        ("addition:coefficient=much", "addition: option coefficient: Input should be a valid number"),
        ("addition:coefficient=NaN", "addition: option coefficient: Input should be a finite number"),
        ("ablation:variant=loose", "ablation: option variant: Input should be 'exact' or 'published'"),
        ("ablation:variant", "give NAME or NAME:OPTION=VALUE"),
        (" , ", "name at least one"),
    ],
)
def test_a_wrong_name_or_option_is_refused_with_what_would_do(text: str, said: str) -> None:
    with pytest.raises(UserError, match=said):
        settings(**interventions_of(text))


def test_options_of_an_intervention_that_does_not_run_are_refused() -> None:
    with pytest.raises(UserError, match="options of affine, which does not run; what runs: ablation, addition"):
        settings(options={"affine": {"variant": "exact"}})


def test_a_name_can_be_registered_once() -> None:
    with pytest.raises(ValueError, match="'ablation' is already registered"):
        register(DECLARED["ablation"], MAKERS["ablation"])
    with pytest.raises(ValueError, match="no name of an intervention"):
        register(replace(DECLARED["ablation"], name="My Gate"), MAKERS["ablation"])
