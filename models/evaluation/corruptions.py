"""What goes wrong in the benchmark, on purpose: a scene under a condition, and the like of it for training.

Laws:
1. The same scene, condition and seed give the same scene. The conditions of one ladder (`snr_...`, `wer_...`, `shift_...`) draw the same
   noise, the same errors, the same modality and direction: one differs from the next in its severity alone.
2. A condition changes media, never truth: `script` stays, and with it what is true when. Under a shift truth is the unshifted script's,
   so evidence of the modality that is shifted falls into windows where it is wrong.
3. What a condition does not touch is the very same object; nothing that came in is written to.
4. No method is trained on the conditions themselves: `augment` draws other colours and shapes of noise, another blur, other invented
   sentences and other pairs of words that sound alike, and severities from a range. Covers, hanging cameras and shifts are never
   trained on. The darkness, the bursts of lost packets and the confused letters are of the same kind in both.

That a modality is missing altogether is no condition here: that is done on windows.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cache, partial
from types import MappingProxyType

import numpy as np

from models.evaluation import corrupt_pictures, corrupt_sound, corrupt_words
from models.evaluation.corrupt_words import Recognizer
from models.evaluation.media import Rgb
from models.evaluation.scenes import Scene
from models.fusion.windows import MODALITIES

Change = Callable[[Scene, np.random.Generator], Scene]

JOINT_SNR_DB, JOINT_WER = 5.0, 0.2
SNR_DB, OVERLOAD_DB, LOST = (-5.0, 25.0), (6.0, 30.0), (0.05, 0.3)
"""Ranges of training: noise; gain that may clip; share of lost packets."""
LIGHT, SIGMA, WER = (0.01, 0.3), (1.0, 8.0), (0.0, 0.4)
"""Ranges of training: light that is left (evenly on a logarithmic scale), pixels of blur, word error rate."""
SPOILT, JOINTLY = 0.3, 0.1
"""Chances of training: of each modality to be corrupted on its own, and of all three together instead."""
GAIN_DB = 6.0
"""Of training: how far the sound's level may be from what it was."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Condition:
    """`touches`: the modalities that may change. `says`: one sentence for a report. `ladder`: conditions with the same random numbers."""

    name: str
    touches: tuple[str, ...]
    says: str
    ladder: str
    change: Change


def corrupt(scene: Scene, condition: str, seed: int) -> Scene:
    """The scene under a condition. ValueError names the known ones."""
    if condition not in CONDITIONS:
        raise ValueError(f"unknown condition {condition!r}; known are {', '.join(CONDITIONS)}")
    found, script = CONDITIONS[condition], scene.script
    rng = np.random.default_rng([seed, script.seed, round(script.start), zlib.crc32(found.ladder.encode())])
    return found.change(scene, rng)


def _clean(scene: Scene, rng: np.random.Generator) -> Scene:
    return scene


def _snr(snr_db: float, scene: Scene, rng: np.random.Generator) -> Scene:
    noise_N = corrupt_sound.street(rng, len(scene.sound_N))
    return replace(scene, sound_N=corrupt_sound.noisy(scene.sound_N, noise_N, snr_db))


def _clipped(scene: Scene, rng: np.random.Generator) -> Scene:
    return replace(scene, sound_N=corrupt_sound.clipped(scene.sound_N))


def _packet_loss(scene: Scene, rng: np.random.Generator) -> Scene:
    return replace(scene, sound_N=corrupt_sound.lossy(rng, scene.sound_N))


def _dark(scene: Scene, rng: np.random.Generator) -> Scene:
    return _each(scene, partial(corrupt_pictures.darkened, rng))


def _blurred(scene: Scene, rng: np.random.Generator) -> Scene:
    return _each(scene, corrupt_pictures.defocused)


def _frozen(scene: Scene, rng: np.random.Generator) -> Scene:
    return replace(scene, pictures=corrupt_pictures.hanging(rng, scene.pictures))


def _occluded(scene: Scene, rng: np.random.Generator) -> Scene:
    return replace(scene, pictures=corrupt_pictures.covered(rng, scene.pictures))


def _each(scene: Scene, change: Callable[[Rgb], Rgb]) -> Scene:
    return replace(scene, pictures=corrupt_pictures.each(scene.pictures, change))


def _wer(rate: float, scene: Scene, rng: np.random.Generator) -> Scene:
    return replace(scene, words=corrupt_words.misheard(rng, scene.words, rate, _recognizer("test")))


def _invented(scene: Scene, rng: np.random.Generator) -> Scene:
    return replace(scene, words=corrupt_words.invented(rng, scene.words, scene.script, _recognizer("test")))


def _shift(seconds: float, scene: Scene, rng: np.random.Generator) -> Scene:
    modality = MODALITIES[int(rng.integers(len(MODALITIES)))]
    by = seconds if rng.random() < 0.5 else -seconds
    if modality == "frames":
        return replace(scene, pictures=corrupt_pictures.moved(scene.pictures, by))
    if modality == "audio":
        return replace(scene, sound_N=corrupt_sound.moved(rng, scene.sound_N, by, scene.script))
    return replace(scene, words=corrupt_words.moved(scene.words, by, scene.script.seconds))


def _joint(scene: Scene, rng: np.random.Generator) -> Scene:
    seen = _dark if rng.random() < 0.5 else _blurred
    return _wer(JOINT_WER, seen(_snr(JOINT_SNR_DB, scene, rng), rng), rng)


@cache
def _recognizer(name: str) -> Recognizer:
    return Recognizer.load(name)


def _condition(name: str, touches: tuple[str, ...], says: str, change: Change, *, ladder: str = "") -> Condition:
    return Condition(name=name, touches=touches, says=says, ladder=ladder or name, change=change)


_FRAMES, _AUDIO, _WORDS = (MODALITIES[:1], MODALITIES[1:2], MODALITIES[2:])
_EVERY = (
    _condition("clean", (), "The scene as it was composed.", _clean),
    *(
        _condition(
            name, _AUDIO, f"Generated noise (pink and a murmur) at {level:g} dB signal to noise.", partial(_snr, level), ladder="snr"
        )
        for name, level in (("snr_20", 20.0), ("snr_10", 10.0), ("snr_5", 5.0), ("snr_0", 0.0), ("snr_m5", -5.0))
    ),
    _condition("clipped", _AUDIO, f"So much gain that {corrupt_sound.CLIPPED_SHARE:.0%} of the samples reach full scale.", _clipped),
    _condition(
        "packet_loss", _AUDIO, f"{corrupt_sound.LOST_SHARE:.0%} of the packets of 20 ms are lost, in bursts: they are zeros.", _packet_loss
    ),
    _condition("dark", _FRAMES, f"{corrupt_pictures.LIGHT:.0%} of the light, with the noise of a sensor.", _dark),
    _condition("blurred", _FRAMES, f"Out of focus: each point is a disc of {corrupt_pictures.DISC:g} pixels radius.", _blurred),
    _condition("frozen", _FRAMES, "From an early second (1 to 3) on, always the same picture.", _frozen),
    _condition("occluded", _FRAMES, "Tape or paint hides 60 to 90 % of every picture.", _occluded),
    *(
        _condition(f"wer_{percent}", _WORDS, f"Words are wrong at a rate of {percent} %.", partial(_wer, percent / 100), ladder="wer")
        for percent in (10, 20, 40)
    ),
    _condition(
        "invented",
        _WORDS,
        f"Every {corrupt_words.INVENTED_EVERY_S:g} s a text that nobody said; {corrupt_words.ALARMING_SHARE:.0%} alarm.",
        _invented,
    ),
    *(
        _condition(name, MODALITIES, f"One of the modalities is {seconds:g} s early or late.", partial(_shift, seconds), ladder="shift")
        for name, seconds in (("shift_0_5", 0.5), ("shift_1", 1.0), ("shift_2", 2.0), ("shift_5", 5.0))
    ),
    _condition("joint", MODALITIES, "Noise at 5 dB, pictures dark or out of focus, and 20 % of the words wrong, at once.", _joint),
)
CONDITIONS: Mapping[str, Condition] = MappingProxyType({one.name: one for one in _EVERY})
"""Every condition by its name, the clean one first."""


def augment(scene: Scene, rng: np.random.Generator | int) -> Scene:
    """A scene to train on: seen and heard a little differently, and in two of three cases corrupted. `rng`: or a seed."""
    rng = np.random.default_rng(rng)
    sound_N = corrupt_sound.louder(scene.sound_N, float(rng.uniform(-GAIN_DB, GAIN_DB)))
    scene = replace(scene, sound_N=sound_N, pictures=corrupt_pictures.varied(rng, scene.pictures))
    jointly = rng.random() < JOINTLY
    for spoil, chance in zip((_train_sound, _train_pictures, _train_words), rng.random(3), strict=True):
        if jointly or chance < SPOILT:
            scene = spoil(scene, rng)
    return scene


def _train_sound(scene: Scene, rng: np.random.Generator) -> Scene:
    """Noise in half of all cases, else lost packets or too much gain."""
    kind = rng.random()
    if kind < 0.5:
        noise_N = corrupt_sound.other(rng, len(scene.sound_N))
        return replace(scene, sound_N=corrupt_sound.noisy(scene.sound_N, noise_N, float(rng.uniform(*SNR_DB))))
    if kind < 0.75:
        return replace(scene, sound_N=corrupt_sound.lossy(rng, scene.sound_N, float(rng.uniform(*LOST))))
    return replace(scene, sound_N=corrupt_sound.amplified(scene.sound_N, float(rng.uniform(*OVERLOAD_DB))))


def _train_pictures(scene: Scene, rng: np.random.Generator) -> Scene:
    """Dark or blurred; a sixth of them both."""
    kind = rng.random()
    if kind < 7 / 12:
        scene = _each(scene, partial(corrupt_pictures.darkened, rng, light=float(np.exp(rng.uniform(*np.log(LIGHT))))))
    if kind >= 5 / 12:
        scene = _each(scene, partial(corrupt_pictures.softened, sigma=float(rng.uniform(*SIGMA))))
    return scene


def _train_words(scene: Scene, rng: np.random.Generator) -> Scene:
    """Errors, and in half of all cases invented texts with them."""
    recognizer, inventing = _recognizer("train"), rng.random() < 0.5
    heard = corrupt_words.misheard(rng, scene.words, float(rng.uniform(*WER)), recognizer)
    return replace(scene, words=corrupt_words.invented(rng, heard, scene.script, recognizer) if inventing else heard)
