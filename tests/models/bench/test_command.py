"""What may be asked for, and how what was found is told."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from models.bench.__main__ import asked, main, parser
from models.bench.machine import raced
from models.bench.rates import Rate
from models.bench.report import AIM, ceiling, table
from models.bench.run import CPU, QUICK, offers

RATE = Rate(network="pictures", rows=1, per_second=100.0, gflop=1.0, tflops=0.1, share=0.5, over_plain=1.0, over_compiled=None, note="")


def test_a_device_that_is_not_there_is_said_and_nothing_runs(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert main(["--device", "cuda"]) == 2
    assert "finds no CUDA device; use auto or cpu" in capsys.readouterr().err


def test_a_gpu_is_not_timed_by_the_processor(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert main(["--processor-time"]) == 2
    assert "use it with --device cpu" in capsys.readouterr().err


@pytest.mark.parametrize("given", [["--workers", "0"], ["--workers", "65"], ["--rows", "0"], ["--rows", "8", "257"]])
def test_a_number_out_of_its_range_is_said_and_nothing_runs(given: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--device", "cpu", *given]) == 2
    assert f"{given[0]} " in capsys.readouterr().err


def test_where_a_process_fails_what_was_measured_is_told_and_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: object) -> None:
        raise RuntimeError("a worker of the benchmark ended")

    monkeypatch.setattr("models.bench.run.crowded", fails)
    assert main(["--device", "cpu", "--quick", "--workers", "2", "--json", str(tmp_path / "found.json")]) == 3
    told = capsys.readouterr()
    assert "Sessions held" in told.out and "a worker of the benchmark ended" in told.err
    assert json.loads((tmp_path / "found.json").read_text())["loads"]


def test_help_says_what_is_measured_and_shows_examples(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="0"):
        main(["--help"])
    shown = capsys.readouterr().out
    assert "What it prints" in shown and "python -m models.bench --quick" in shown and "exit status" in shown


def test_on_a_cpu_the_default_is_float32_and_shapes_up_to_the_largest_batch() -> None:
    wanted = asked(parser().parse_args(["--device", "cpu"]))
    assert (wanted.dtype, wanted.effort, wanted.compile_with) == (torch.float32, CPU, None)
    assert wanted.plan.sizes == (1, 2, 4, 8, 16, 32)
    short = asked(parser().parse_args(["--device", "cpu", "--quick", "--compile", "--dtype", "bfloat16"]))
    assert (short.dtype, short.effort, short.compile_with) == (torch.bfloat16, QUICK, "inductor")


def test_the_aim_is_offered_where_it_lies_among_the_loads() -> None:
    assert offers(100.0, (0.25, 1.1)) == [25, 110]
    assert offers(2_000.0, (0.25, 1.1)) == [500, AIM, 2_200]


def test_the_ceiling_is_what_a_window_needs_of_each_network_at_its_best() -> None:
    found = [
        RATE,
        *(
            Rate(network=name, rows=rows, per_second=rate, gflop=1, tflops=1, share=1, over_plain=1, over_compiled=None, note="")
            for name, rows, rate in (("sound", 1, 10.0), ("sound", 8, 100.0), ("words", 8, 20.0), ("head + Shapley", 8, 50.0))
        ),
    ]
    assert ceiling(found) == pytest.approx(1 / (2 / 100 + 1 / 100 + 0.2 / 20 + 1 / 50))


def test_contestants_take_turns_and_each_gets_its_own_time() -> None:
    order: list[str] = []
    found = raced({"a": lambda: order.append("a"), "b": lambda: order.append("b")}, "cpu", runs=2, least=0.0)
    assert order == ["a", "a", "b", "b", "a", "b", "a", "b"]
    assert found.keys() == {"a", "b"} and all(time > 0 for time in found.values())


def test_a_table_lines_up() -> None:
    assert list(table(("name", "n"), [("long name", "1"), ("x", "1,000")])) == ["name           n", "long name      1", "x          1,000"]
