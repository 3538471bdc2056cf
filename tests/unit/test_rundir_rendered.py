"""Report and figures: known by digest, never half-believed, whatever moment the process dies at."""

from __future__ import annotations

from pathlib import Path

import pytest

from refusal_lens.rundir import RunDir, rendered, scrub, verify_chain

PAGE = "report.html"
FIRST = {PAGE: b"<p>one", "figures/a.svg": b"<svg>a", "figures/b.svg": b"<svg>b"}
SECOND = {PAGE: b"<p>two", "figures/b.svg": b"<svg>B", "figures/c.svg": b"<svg>c"}


@pytest.fixture
def run(tmp_path: Path) -> RunDir:
    made = RunDir.create(tmp_path / "run", header={"seed": 0})
    made.render(FIRST)
    return made


def content(run: RunDir) -> dict[str, bytes]:
    files = [run.report_path, *sorted((run.root / "figures").iterdir())]
    return {str(path.relative_to(run.root)): path.read_bytes() for path in files if path.exists()}


def test_a_report_is_written_whole_and_replaced_whole(run: RunDir) -> None:
    assert content(run) == FIRST and run.report_is_intact() and not verify_chain(run).problems
    run.render(SECOND)
    assert content(run) == SECOND and run.report_is_intact() and not verify_chain(run).problems
    assert [path.read_bytes() for path in (run.root / "aside").glob("*/figures/*")] == [b"<svg>a"]


def test_figures_alone_leave_the_page(run: RunDir) -> None:
    run.render({"figures/c.svg": b"<svg>c"})
    assert content(run) == {PAGE: FIRST[PAGE], "figures/c.svg": b"<svg>c"} and run.report_is_intact()


def test_a_private_page_is_for_the_owner(run: RunDir) -> None:
    assert run.report_path.stat().st_mode & 0o777 == 0o644
    run.render(FIRST, private=[PAGE])
    assert run.report_path.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("name", [PAGE, "figures/a.svg", "rendered.json"])
@pytest.mark.parametrize("damage", ["flip", "cut", "remove", "link"])
def test_damage_is_named_set_aside_and_drawn_anew(run: RunDir, name: str, damage: str, tmp_path: Path) -> None:
    path = run.root / name
    before = path.read_bytes()
    if damage == "flip":
        path.write_bytes(bytes([before[0] ^ 1]) + before[1:])
    elif damage == "cut":
        path.write_bytes(before[: len(before) // 2])
    else:
        path.unlink()
        if damage == "link":
            (tmp_path / "elsewhere").write_bytes(before)
            path.symlink_to(tmp_path / "elsewhere")
    problems = verify_chain(run).problems
    followed = name == "rendered.json" and damage == "link"  # says what was written, whoever holds it
    assert followed or any(name in line for line in problems) or (name, damage) == ("rendered.json", "remove")
    assert followed or not run.report_is_intact()
    run.sweep()
    run.render(FIRST)
    assert content(run) == FIRST and run.report_is_intact() and not verify_chain(run).problems


def test_a_foreign_figure_is_named_and_set_aside(run: RunDir) -> None:
    (run.root / "figures" / "guest.bin").write_bytes(b"x")
    assert verify_chain(run).problems == ("figures/guest.bin: foreign, no report drew it",)
    run.sweep()
    assert not verify_chain(run).problems and run.report_is_intact()
    assert [path.read_bytes() for path in (run.root / "aside").glob("*/figures/guest.bin")] == [b"x"]


@pytest.mark.parametrize("moment", range(5))
def test_a_kill_at_any_moment_of_writing_raises_no_suspicion(
    run: RunDir, moment: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    write, written = rendered.write_atomic, 0

    def dying(path: Path, data: bytes, *, mode: int) -> None:
        nonlocal written
        if written == moment:
            raise KeyboardInterrupt
        written += 1
        write(path, data, mode=mode)

    with monkeypatch.context() as patch:
        patch.setattr(rendered, "write_atomic", dying)
        with pytest.raises(KeyboardInterrupt):
            run.render(SECOND)
    assert not verify_chain(run).problems
    run.sweep()
    run.render(SECOND)
    assert content(run) == SECOND and run.report_is_intact() and not verify_chain(run).problems
    assert not any(path.read_bytes() == b"<svg>c" for path in (run.root / "aside").rglob("*.svg"))


def test_scrub_takes_the_page_and_nothing_is_missed(run: RunDir) -> None:
    assert scrub(run).report
    assert not run.report_path.exists() and not verify_chain(run).problems and not run.report_is_intact()
    run.render(FIRST)
    assert run.report_is_intact()
