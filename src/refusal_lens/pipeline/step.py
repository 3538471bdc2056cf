"""The contract of a step: what it declares, what it is given, and what it gives back.

    key = hash(step, version, parameters, identity of the tools it uses, digests of its inputs)

A step is one file of `steps/`: a frozen dataclass of parameters, `plan` (which of its tasks an audit needs), `compute`, and
one `Step` that declares both with its version, its inputs and its tables. `compute(params, inputs, tools)` is given what the
key is made of and nothing else: no configuration, no run directory. It returns its outputs; the worker writes them.
To add a step: write the file, add it to `registry.STEPS`, its table to `core.tables`, its section to the report.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, Literal, Protocol, TypeAlias, TypeVar, runtime_checkable

from pydantic import TypeAdapter

from refusal_lens.core.table import RowT, Table
from refusal_lens.errors import RunError
from refusal_lens.judging import Judge
from refusal_lens.model import ENGINE, BatchSize, Engine, LensModel
from refusal_lens.pipeline.planning import Planning
from refusal_lens.pipeline.served import ServedModel
from refusal_lens.types import JsonValue, Prompt, Task

ParamsT = TypeVar("ParamsT")
Tool: TypeAlias = Literal["model", "base model", "judge", "prompts"]


def _none() -> None:
    return None


@dataclass(frozen=True)
class Kit:
    """The tools of a process, each made when first asked for.

    Attributes:
        model: The audited model.
        base_model: The unaligned model it is compared with, reading the audited model's chat template.
        judge: The judge of the audit.
        prompts: The prompts of one part, from their source.
        batch_size: Rows of a forward pass: transport, never part of a key.
        engine: What writes answers: transport too.
        served: The audited model where it is served elsewhere, and no `model` can be had.
    """

    model: Callable[[], LensModel]
    base_model: Callable[[], LensModel]
    judge: Callable[[], Judge]
    prompts: Callable[[str], tuple[Prompt, ...]]
    batch_size: BatchSize = "auto"
    engine: Engine = ENGINE
    served: Callable[[], ServedModel | None] = _none


class Tools:
    """What a step may use beside its parameters and inputs: the tools it declared, whose identities are in its key."""

    def __init__(self, kit: Kit, declared: Collection[Tool]) -> None:
        """Hand out the declared tools of a process."""
        self._kit = kit
        self._declared = frozenset(declared)

    @property
    def model(self) -> LensModel:
        """The audited model."""
        return self._from("model").model()

    @property
    def served(self) -> ServedModel | None:
        """The audited model where it is served elsewhere: then only its answers can be had."""
        return self._from("model").served()

    @property
    def base_model(self) -> LensModel:
        """The unaligned model it is compared with."""
        return self._from("base model").base_model()

    @property
    def judge(self) -> Judge:
        """The judge of the audit."""
        return self._from("judge").judge()

    @property
    def batch_size(self) -> BatchSize:
        """Rows of a forward pass; changes nothing of a result."""
        return self._kit.batch_size

    @property
    def engine(self) -> Engine:
        """What writes answers; changes nothing of a result."""
        return self._kit.engine

    def prompts(self, part: str) -> tuple[Prompt, ...]:
        """The prompts of one part, from their source."""
        return self._from("prompts").prompts(part)

    def _from(self, tool: Tool) -> Kit:
        assert tool in self._declared, f"the step uses the {tool} without declaring it: its key would not say so"
        return self._kit


@dataclass(frozen=True)
class Inputs:
    """Outputs of the tasks that a task reads.

    Attributes:
        files: By task id, the output files by name. What was scrubbed is absent.
    """

    files: Mapping[str, Mapping[str, Path]]

    def of(self, step: str) -> dict[str, str]:
        """The input tasks of one step in plan order: task id by task name."""
        return {task_id.partition("/")[2]: task_id for task_id in self.files if task_id.startswith(f"{step}/")}

    def has(self, task_id: str, name: str) -> bool:
        """Whether an input has an output of that name."""
        return name in self.files.get(task_id, {})

    def file(self, task_id: str, name: str) -> Path:
        """An input's output file.

        Args:
            task_id: One of the task's inputs.
            name: Name of the file.

        Returns:
            Its path.

        Raises:
            RunError: The file is not there: never written, or scrubbed.
        """
        assert task_id in self.files, f"{task_id} is not among the task's inputs"
        if name not in self.files[task_id]:
            raise RunError(f"{task_id} has no output {name!r} (any more)")
        return self.files[task_id][name]

    def json(self, task_id: str, name: str) -> Any:
        """An input's JSON document."""
        return json.loads(self.file(task_id, name).read_text(encoding="utf-8"))

    def rows(self, table: Table[RowT], task_id: str) -> list[RowT]:
        """The rows of an input's table."""
        return table.read(self.file(task_id, f"{table.name}.parquet"))


@runtime_checkable
class Output(Protocol):
    """Something that a step gives back."""

    def write(self, folder: Path) -> None:
        """Write it into the task's folder."""
        ...


@dataclass(frozen=True)
class Rows(Generic[RowT]):
    """A table with its rows, in order."""

    table: Table[RowT]
    rows: Sequence[RowT]

    def write(self, folder: Path) -> None:
        """Write `NAME.parquet`, with a CSV copy where the table is final."""
        self.table.write(folder, self.rows)


@dataclass(frozen=True)
class Document:
    """A JSON document; one for readers outside holds no NaN, which JSON cannot say."""

    name: str
    value: JsonValue
    finite: bool = False

    def write(self, folder: Path) -> None:
        """Write it; ValueError where it should be finite and is not."""
        text = json.dumps(self.value, ensure_ascii=False, indent=1, allow_nan=not self.finite)
        (folder / self.name).write_text(text, encoding="utf-8")


@dataclass(frozen=True)
class Saved:
    """Something that writes its own files into a folder, e.g. tensors."""

    save: Callable[[Path], object]

    def write(self, folder: Path) -> None:
        """Let it."""
        self.save(folder)


@dataclass(frozen=True)
class Ask(Generic[ParamsT]):
    """A task that an audit needs of a step: its name, its parameters, the ids of the tasks it reads."""

    name: str
    params: ParamsT
    inputs: tuple[str, ...] = ()


def _nothing(_: object) -> Collection[Tool]:
    return ()


@dataclass(frozen=True, kw_only=True)
class Step(Generic[ParamsT]):
    """A step of an audit.

    Attributes:
        name: First part of its tasks' ids.
        version: Raised when the same parameters and inputs give another result; makes earlier results stale.
        params: Type of its parameters, a frozen dataclass.
        plan: The tasks an audit needs of it, given the configuration and what the steps before it planned.
        compute: Parameters, inputs and tools to outputs.
        kind: Of tasks that may be computed together, what they have in common; None where each is computed alone.
        together: Computes some tasks of one kind, and gives the outputs of the first ones: as many as were worth it.
        uses: Tools it always uses; their identities enter the key.
        also_uses: Tools it uses under certain parameters.
        reads: Steps whose outputs it reads.
        tables: Tables it writes.
        published: Whether its outputs are copied to `RUN/tables`.
    """

    name: str
    version: int
    params: type[ParamsT]
    plan: Callable[[Planning], Iterator[Ask[ParamsT]]]
    compute: Callable[[ParamsT, Inputs, Tools], Sequence[Output]]
    uses: Collection[Tool] = ()
    also_uses: Callable[[ParamsT], Collection[Tool]] = _nothing
    reads: Collection[str] = ()
    tables: tuple[Table[Any], ...] = ()
    published: bool = False
    kind: Callable[[ParamsT], Hashable] | None = None
    together: Callable[[Sequence[tuple[ParamsT, Inputs]], Tools], Sequence[Sequence[Output]]] | None = None

    def tools(self, params: ParamsT) -> frozenset[Tool]:
        """The tools that a task with these parameters uses."""
        return frozenset((*self.uses, *self.also_uses(params)))

    def task(self, asked: Ask[ParamsT], identities: Mapping[Tool, Mapping[str, JsonValue]]) -> Task:
        """The task, with everything in its parameters that `compute` will be given and no file says.

        Args:
            asked: What is asked of the step.
            identities: By tool, what identifies it.

        Returns:
            The task.
        """
        strangers = {name.partition("/")[0] for name in asked.inputs} - set(self.reads)
        assert not strangers, f"step {self.name} reads {sorted(strangers)} without declaring it"
        tools = self.tools(asked.params)
        own: dict[str, JsonValue] = TypeAdapter(self.params).dump_python(asked.params, mode="json")
        for tool in sorted(tools):
            identity = identities[tool]
            assert not own.keys() & identity.keys(), f"step {self.name}: a parameter has the name of a tool's identity"
            own |= identity
        return Task(self.name, self.version, asked.name, own, asked.inputs, needs_model="model" in tools)

    def kind_of(self, task: Task) -> Hashable:
        """What a task has in common with those it may be computed with; None where it is computed alone."""
        return None if self.kind is None else self.kind(self._params(task))

    def run(self, asked: Sequence[tuple[Task, Inputs]], kit: Kit) -> Sequence[Sequence[Output]]:
        """Compute a task, or some of one kind together.

        Args:
            asked: Tasks of this step with the outputs of the tasks they read.
            kit: Where their tools come from.

        Returns:
            The outputs of each task, in order; of several perhaps of the first ones only.
        """
        known = [(self._params(task), inputs) for task, inputs in asked]
        tools = Tools(kit, self.tools(known[0][0]))
        made = [self.compute(*known[0], tools)] if self.together is None else self.together(known, tools)
        for output in (output for outputs in made for output in outputs):
            declared = not isinstance(output, Rows) or output.table in self.tables
            assert declared, f"step {self.name} writes a table that it does not declare"
        return made

    def _params(self, task: Task) -> ParamsT:
        names = self.params.__dataclass_fields__  # pyright: ignore[reportAttributeAccessIssue]
        return TypeAdapter(self.params).validate_python({name: task.params[name] for name in names})
