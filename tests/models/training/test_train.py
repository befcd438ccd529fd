"""Laws of models/training/train.py, over a small world; and of the experts that its methods share."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from rich.progress import Progress
from torch import Tensor

from models.fusion.gated import Gated
from models.fusion.log_odds import LogOdds
from models.fusion.methods import METHODS
from models.fusion.windows import MODALITIES
from models.head import FusionHead
from models.training import loop
from models.training.data import Data, precision
from models.training.experts import Trained
from models.training.train import key_of, train, train_experts
from tests.models.training.builders import CLASSES, TOLD, data, quick, splits, without

SHORT, LONG = quick(epochs=2, average=0.0), quick(epochs=30, gate_epochs=30)
SPOILT = {"size": 640, "spoilt": 0.5, "absent": 0.0, "noise": {"frames": 1.6, "audio": 0.8}}


def state(head: FusionHead) -> dict[str, Tensor]:
    return dict(head.state_dict())


def same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[key], other[key]) for key in one)


@pytest.fixture(scope="module")
def short() -> Trained:
    return train_experts(*splits(), SHORT, seed=0)


@pytest.fixture(scope="module")
def told() -> tuple[tuple[Data, Data, Data], Trained]:
    """Sound that is noise in every second window, pictures that are never clear. Experts that do not read quality: gates have to."""
    every = splits(**SPOILT)
    deaf = train_experts(*splits(**SPOILT, measured=False), LONG, seed=0)
    unread = {name: torch.zeros_like(tensor) if ".quality.weight" in name else tensor for name, tensor in deaf.state.items()}
    return every, replace(deaf, state=unread, key=key_of(every, LONG, 0))


@pytest.mark.parametrize("method", METHODS)
def test_every_method_is_trained_and_calibrated_and_comes_back_from_its_file(method: str, short: Trained, tmp_path: Path) -> None:
    head = train(method, *splits(), SHORT, seed=0, experts=short, encoders="tiny-1")
    windows = data(9).windows
    assert (head.about.method, head.about.classes, head.about.seed, head.about.recipe) == (method, CLASSES, 0, SHORT.digest)
    assert head.calibration is not None and head.calibration.windows == 320
    assert precision(head.logits(windows), data(9).truth_BC, data(9).known) > 0.4
    head.save(tmp_path / "head.safetensors")
    assert torch.equal(FusionHead.load(tmp_path / "head.safetensors").probabilities(windows), head.probabilities(windows))


@pytest.mark.parametrize("method", ["gated", "concatenation"])
def test_the_same_seed_gives_the_same_head_and_moves_no_generator_of_the_caller(method: str) -> None:
    before = torch.random.get_rng_state()
    one, other = (train(method, *splits(size=128), SHORT, seed=0) for _ in range(2))
    assert same(state(one), state(other)) and one.calibration == other.calibration
    assert torch.equal(torch.random.get_rng_state(), before) and not torch.are_deterministic_algorithms_enabled()
    assert not same(state(train(method, *splits(size=128), SHORT, seed=1)), state(one))


def test_with_one_modality_present_the_logits_are_its_calibrated_expert_after_training_too(short: Trained) -> None:
    head, windows = train("gated", *splits(), SHORT, seed=0, experts=short), data(9, absent=0.0).windows
    assert isinstance(head.method, Gated)
    experts = head.method.experts
    assert same(dict(experts.state_dict()), short.state)
    for m, name in enumerate(MODALITIES):
        only = windows.only((torch.arange(3) == m).expand(len(windows.present_BM), -1))
        said_BC = experts.experts[name](getattr(head.standard(only), name)) * short.state["scale_MC"][m] + short.state["bias_MC"][m]
        expected_BC = torch.where(short.speaks_MC[m], said_BC, short.state["prior_C"])
        assert torch.equal(head.logits(only), expected_BC)


def test_experts_speak_of_what_their_modality_tells_and_of_nothing_else() -> None:
    found = train_experts(*splits(size=640), quick(), seed=0)
    assert found.speaks_MC.tolist() == [list(TOLD[name]) for name in MODALITIES]
    assert (found.precision_MC > found.base_MC + 0.2)[found.speaks_MC].all()
    assert found.state["scale_MC"][found.speaks_MC].gt(0).all()


def test_a_subject_that_the_recipe_denies_and_a_class_too_rare_have_no_voice() -> None:
    one, *others = splits(size=640)
    truth_BC = one.truth_BC.clone()
    truth_BC[:, 1] &= torch.arange(640) < 24
    denied = train_experts(replace(one, truth_BC=truth_BC), *others, quick(subjects=(("frames", ()),), epochs=1), seed=0)
    assert not denied.speaks_MC[0].any() and not denied.speaks_MC[:, 1].any() and denied.speaks_MC[1, 0]


def test_cross_fitted_log_odds_do_not_know_the_window_by_heart() -> None:
    """Labels that nothing tells: an expert is sure of those that it trained on, and knows nothing of held-out ones."""
    nothing = {"frames": 1e3, "audio": 1e3, "transcripts": 1e3}
    every = splits(size=200, noise=nothing, absent=0.0)
    recipe = quick(epochs=30, patience=30, dropout=0.0, token_noise=0.0, quality_jitter=0.0, token_dropout=0.0)
    found = train_experts(*every, recipe, seed=0)
    truth_BC, known_BC = every[0].truth_BC[:, :1], every[0].known[:, :1]
    assert precision(found.crossfit_BMC[:, 1, :1], truth_BC, known_BC) < 0.5


def test_gates_learn_to_trust_what_its_quality_says_is_good(told: tuple[tuple[Data, Data, Data], Trained]) -> None:
    (one, two, three), experts = told
    test, c = data(9, **{**SPOILT, "size": 1500}), 0

    def ap(head: FusionHead, windows_of: Callable[[Data], Data] = lambda it: it) -> float:
        made = windows_of(test)
        return precision(head.logits(made.windows)[:, [c]], made.truth_BC[:, [c]], made.known[:, [c]])

    heads = {name: train(name, one, two, three, LONG, seed=0, experts=experts) for name in ("gated", "log_odds", "concatenation")}
    gated = heads["gated"]
    alone = [ap(gated, lambda it, left=name: it.with_windows(without(it.windows, left))) for name in ("frames", "audio")]
    assert ap(gated) > max(alone) - 0.01
    assert ap(gated) > ap(heads["log_odds"]) + 0.01
    assert ap(gated) > ap(heads["concatenation"]) - 0.01
    assert isinstance(gated.method, Gated)
    scaled = gated.standard(test.windows)
    audio_B = gated.method.gates(scaled, gated.method.experts(scaled))[0][:, 1, c]
    spoilt_B = test.windows.audio.quality_BQ[:, 0] > 2.5
    assert audio_B[spoilt_B].mean() < 0.35 < 0.5 < audio_B[~spoilt_B].mean()


def test_an_expert_that_reads_quality_says_less_where_it_is_told_that_its_sound_is_noise() -> None:
    every, test = splits(**SPOILT), data(9, **SPOILT)
    head = train("log_odds", *every, quick(), seed=0)
    assert isinstance(head.method, LogOdds)
    opinions = head.method.experts(head.standard(test.windows))
    leaves_B = (opinions.logits_BMC - opinions.prior_C)[:, 1, 0].abs()
    spoilt_B = test.windows.audio.quality_BQ[:, 0] > 2.5
    assert leaves_B[spoilt_B].mean() < 0.5 * leaves_B[~spoilt_B].mean()


def test_the_residual_corrects_what_the_recipe_calls_joint_by_the_classes_that_decide_it_and_nothing_else() -> None:
    every, recipe = splits(), quick(epochs=2, joint=(("scream", ("person",)),), shares=(1.0,))
    method = train("gated", *every, recipe, seed=0).method
    assert isinstance(method, Gated)
    decides = torch.zeros(len(CLASSES), len(CLASSES), dtype=torch.bool)
    decides[CLASSES.index("scream"), CLASSES.index("person")] = True
    assert torch.equal(method.residual.parts_CC, decides)
    for weights_MCC in (method.residual.there_MCC, method.residual.not_there_MCC):
        assert torch.equal((weights_MCC != 0).any(0), decides)


def test_gates_and_residual_keep_the_share_that_the_recipe_allows() -> None:
    for share in (0.0, 1.0):
        method = train("gated", *splits(), quick(epochs=2, joint=(("person", ("scream",)),), shares=(share,)), seed=0).method
        assert isinstance(method, Gated)
        of_two_voices = [method.gates.quality[name][-1].weight for name in ("frames", "audio")]
        learned = [method.gates.evidence_MC, method.residual.there_MCC, *of_two_voices]
        assert [bool(one.any()) for one in learned] == [share > 0] * len(learned)


def test_calibration_counts_each_window_once_and_has_a_temperature_for_every_pattern(short: Trained) -> None:
    head = train("log_odds", *splits(), SHORT, seed=0, experts=short)
    assert head.calibration is not None
    assert (head.calibration.windows, head.calibration.hours) == (320, pytest.approx(320 / 3600))
    positives = [int(count) for count in splits()[2].truth_BC.sum(0)]
    assert [each.positives for each in head.calibration.classes] == positives
    fitted = [each.fitted_on for name, each in head.calibration.temperatures.items() if name != "nothing"]
    assert fitted == [name for name in head.calibration.temperatures if name != "nothing"]


def test_labels_that_are_not_known_change_no_weight(short: Trained) -> None:
    train_split, *others = splits(size=128)
    known_BC = torch.ones_like(train_split.truth_BC)
    known_BC[:40, 0] = False
    flipped_BC = torch.where(known_BC, train_split.truth_BC, ~train_split.truth_BC)
    one, other = (
        train("weighted_sum", replace(train_split, known_BC=known_BC, truth_BC=truth_BC), *others, quick(epochs=2, balance=0.0), seed=0)
        for truth_BC in (train_split.truth_BC, flipped_BC)
    )
    assert same(state(one), state(other))


def test_what_does_not_fit_is_refused(short: Trained) -> None:
    one, two, three = splits(size=128)
    with pytest.raises(ValueError, match="other splits, another recipe or seed"):
        train("log_odds", one, two, three, SHORT, seed=0, experts=short)
    with pytest.raises(ValueError, match="no timeline"):
        train("weighted_sum", one, two, replace(three, timeline=None), SHORT, seed=0)
    with pytest.raises(ValueError, match="must be those of the training split"):
        train("weighted_sum", one, two, replace(three, classes=("a", "b", "c")), SHORT, seed=0)
    with pytest.raises(ValueError, match=r"widths .* must be those of the training split"):
        train("weighted_sum", one, two.with_windows(replace(two.windows, audio=two.windows.frames)), three, SHORT, seed=0)
    with pytest.raises(ValueError, match="'guess'"):
        train("guess", one, two, three, SHORT, seed=0)


class Interrupted(Exception):
    pass


@pytest.mark.parametrize("after", [1, 4, 8])
def test_a_training_that_was_interrupted_ends_with_the_same_head(after: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Gated: three experts of two folds each, then gates; `after` so many epochs of all of them."""
    recipe, every = quick(epochs=3), splits(size=128)
    whole = train("gated", *every, recipe, seed=0)
    plain, left = loop._epoch, [after]

    def counted(*given: object) -> float:
        if not left[0]:
            raise Interrupted
        left[0] -= 1
        return plain(*given)  # type: ignore[arg-type]

    monkeypatch.setattr(loop, "_epoch", counted)
    with pytest.raises(Interrupted):
        train("gated", *every, recipe, seed=0, checkpoint_dir=tmp_path)
    monkeypatch.undo()
    found = train("gated", *every, recipe, seed=0, checkpoint_dir=tmp_path)
    assert same(state(found), state(whole)) and found.calibration == whole.calibration
    again = train("gated", *every, recipe, seed=0, checkpoint_dir=tmp_path)
    assert same(state(again), state(whole))
    with pytest.raises(ValueError, match="another recipe, seed"):
        train("gated", *every, recipe, seed=1, checkpoint_dir=tmp_path)


def test_a_bar_by_stage_and_curves_change_nothing(tmp_path: Path) -> None:
    every = splits(size=128)
    plain = train("concatenation", *every, SHORT, seed=0)
    with Progress(disable=True) as progress:
        watched = train("concatenation", *every, SHORT, seed=0, progress=progress, log_dir=tmp_path / "curves")
        assert [(task.description, task.completed, task.total) for task in progress.tasks] == [("concatenation", 2, 2)]
    assert same(state(plain), state(watched))
    assert [each for each in (tmp_path / "curves").iterdir() if each.stat().st_size > 100]
