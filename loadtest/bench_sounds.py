"""How well prints tell instruments, animals and things apart: `python -m loadtest.bench_sounds`.

Material: sampled instruments and recordings from Debian packages (`loadtest.sound_material`). The map behind the prints
was fitted on made-up sounds, so all of it is held out. Compared with: the encoder's states as they are, the spectrum's
statistics as they are, and CAM++'s voice prints. Also prints what becomes of sounds, and of speech, at the door: voice,
sound or refused. CPU time is for one thread.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import platformdirs
from numpy.typing import NDArray

from gateway.engines.campplus import Campplus
from gateway.engines.manifest import CAMPPLUS, SILERO
from gateway.engines.models import model_folder
from gateway.engines.silero import Silero
from gateway.engines.sound_space import band_statistics, sound_space
from gateway.engines.whisper import Whisper
from gateway.ports import Embedding
from gateway.voiceprint.sounds import Listening, SpeechRules
from loadtest import sound_material as material
from loadtest.fit_sounds import MODEL
from loadtest.sound_material import RATE_HZ, Samples

LONGEST_SAMPLES = 10 * RATE_HZ
HALVED_SAMPLES = 16 * RATE_HZ // 10
"""Recordings from this length on are halved: the first half enrolled, the second asked."""

SERVICE = "sound prints of the service"
ENCODER = "Whisper's encoder, mean over time"
SPECTRUM = "statistics of the log spectrum"
VOICE = "CAM++ (voice prints)"

Print = Callable[[Samples], Embedding]


@dataclass(frozen=True, slots=True)
class Task:
    """Enrolled sounds by name, and each sound that is asked with the names that are right."""

    title: str
    enrolled: Mapping[str, Samples]
    asked: Sequence[tuple[Samples, Sequence[str]]]


@dataclass(frozen=True, slots=True)
class Outcome:
    top_1: float
    top_3: float
    equal_error: float
    same: NDArray[np.float64]
    """Scores of sounds with what they are, at the 10th, 50th and 90th percentile; `different`: with all else."""
    different: NDArray[np.float64]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", type=Path, default=platformdirs.user_cache_path("earshot") / "models")
    parser.add_argument("--speech", type=Path, action="append", default=[], help="a folder of speech, as FLAC or WAV")
    arguments = parser.parse_args()
    if lacking := material.missing():
        parser.exit(
            1, f"the sounds are in Debian packages: apt-get install --no-install-recommends {' '.join(lacking)}\n"
        )
    found, prints = tasks(), Prints(arguments.models)
    for name in (SERVICE, ENCODER, SPECTRUM, VOICE):
        outcomes = [measure(task, lambda sound: prints.of(sound)[name]) for task in found]  # noqa: B023 - called at once
        print(f"\n{name}: {1000 * prints.cost(name):.1f} ms of CPU per second of sound")
        for task, outcome in zip(found, outcomes, strict=True):
            print(_row(task, outcome), flush=True)
    silero = Silero(model_folder(arguments.models, SILERO.name) / SILERO.files[0].name)
    print("\nat the door                             voice  sound  refused")
    for title, clips in doors(found, arguments.speech).items():
        verdicts = [listen_to(silero, clip) for clip in clips]
        shares = "  ".join(f"{verdicts.count(kind) / len(clips):6.1%}" for kind in ("voice", "sound", None))
        print(f"{title:36s} {len(clips):3d} {shares}")


class Prints:
    """Every sound's prints, by what makes them; each sound is heard once, and 10 s of it."""

    def __init__(self, models: Path) -> None:
        self._whisper = Whisper(model_folder(models, MODEL))
        self._campplus = Campplus(model_folder(models, CAMPPLUS.name) / CAMPPLUS.files[0].name)
        self._made: dict[int, dict[str, Embedding]] = {}
        self._heard_s = 0.0
        self._cpu_s = {"Whisper": 0.0, "CAM++": 0.0}

    def of(self, sound: Samples) -> dict[str, Embedding]:
        """Mono samples at 16 kHz; the caller keeps hold of them."""
        if id(sound) not in self._made:
            self._made[id(sound)] = self._make(sound[:LONGEST_SAMPLES])
            self._heard_s += len(sound[:LONGEST_SAMPLES]) / RATE_HZ
        return self._made[id(sound)]

    def cost(self, name: str) -> float:
        """CPU seconds per second of sound."""
        return self._cpu_s["CAM++" if name == VOICE else "Whisper"] / self._heard_s

    def _make(self, sound: Samples) -> dict[str, Embedding]:
        begun_s = time.process_time()
        states, spectrum = self._whisper.hear_sound(sound.astype(np.float32) / np.float32(32768))
        service = sound_space(MODEL).print_of(states, spectrum)
        heard_s = time.process_time()
        voice = self._campplus.embed(sound.tobytes(), RATE_HZ)
        self._cpu_s["Whisper"] += heard_s - begun_s
        self._cpu_s["CAM++"] += time.process_time() - heard_s
        return {
            SERVICE: service,
            ENCODER: states.mean(axis=0),
            SPECTRUM: band_statistics(spectrum),
            VOICE: voice,
        }


def tasks() -> list[Task]:
    """Everything that is asked; notes and recordings are held out from what is enrolled."""
    enrolled, same_font, other_font, phrases = {}, [], [], []
    for instrument in material.INSTRUMENTS:
        four, others = material.enrolled_and_held_out(material.FLUID_FONT, instrument)
        enrolled[instrument.name] = four
        same_font += [(note, [instrument.name]) for note in others]
        four, others = material.enrolled_and_held_out(material.TIM_FONT, instrument)
        other_font += [(note, [instrument.name]) for note in others]
        phrases.append((four, [instrument.name]))
    recordings = material.recordings()
    halves = {name: np.array_split(one, 2) for name, one in recordings.items() if len(one) >= HALVED_SAMPLES}
    stamps = {name.removeprefix("stamps/"): one for name, one in recordings.items() if name.startswith("stamps/")}
    farm = "gcompris/explore_farm_animals/"
    played = "gcompris/instruments/"
    return [
        Task("other notes of an instrument", enrolled, same_font),
        Task("notes of another of its kind", enrolled, other_font),
        Task("four notes of another of its kind", enrolled, phrases),
        Task(
            "recordings of real instruments",
            enrolled,
            [(recordings[played + name], right) for name, right in material.RECORDED_INSTRUMENTS.items()],
        ),
        Task(
            "second half of a recording",
            {name: first for name, (first, _) in halves.items()},
            [(second, [name]) for name, (_, second) in halves.items()],
        ),
        Task(
            "other recordings of an animal",
            stamps,
            [(recordings[farm + name], right) for name, right in material.OTHER_RECORDINGS.items()],
        ),
    ]


def measure(task: Task, embed: Print) -> Outcome:
    names = list(task.enrolled)
    known = np.stack([_unit(embed(sound)) for sound in task.enrolled.values()])
    scores = np.stack([known @ _unit(embed(sound)) for sound, _ in task.asked]).astype(np.float64)
    right = np.array([[name in names_right for name in names] for _, names_right in task.asked])
    ranked = np.take_along_axis(right, np.argsort(-scores, axis=1), axis=1)
    same, different = scores[right], scores[~right]
    steps = np.sort(scores.ravel())
    missed = np.searchsorted(np.sort(same), steps) / len(same)
    taken = 1 - np.searchsorted(np.sort(different), steps) / len(different)
    nearest = int(np.argmin(np.abs(missed - taken)))
    equal_error = float(missed[nearest] + taken[nearest]) / 2
    spread = [np.percentile(part, (10, 50, 90)) for part in (same, different)]
    return Outcome(float(ranked[:, 0].mean()), float(ranked[:, :3].any(axis=1).mean()), equal_error, *spread)


def doors(found: Sequence[Task], speech: Sequence[Path]) -> dict[str, list[Samples]]:
    """Clips that come to the service, and what they are."""
    by_title = {task.title: [sound for sound, _ in task.asked] for task in found}
    clips = {
        "notes": by_title["other notes of an instrument"],
        "four notes": by_title["four notes of another of its kind"],
        "recordings of 1 s or more": [one for one in material.recordings().values() if len(one) >= RATE_HZ],
        "white noise": [_noise(3 * RATE_HZ, dice) for dice in map(np.random.default_rng, range(10))],
    }
    dice = np.random.default_rng(0)
    spoken = [material.read(path.read_bytes()) for folder in speech for path in sorted(folder.glob("*.flac"))]
    for seconds in (3, 1):
        for decibels in (None, 5):
            cut = [_cut(one, seconds, decibels, dice) for one in spoken if len(one) >= seconds * RATE_HZ]
            noise = "" if decibels is None else f", noise {decibels} dB below"
            clips |= {f"{seconds} s of speech{noise}": cut} if cut else {}
    return clips


def listen_to(silero: Silero, samples: Samples) -> str | None:
    """What the service takes a clip for; None for one that it refuses."""
    listening, state = Listening(samples.tobytes(), RATE_HZ, SpeechRules()), None
    for stretch in listening.stretches():
        heard = silero.confirm(stretch, RATE_HZ, state)
        state = heard.state
        listening.note(heard.probabilities)
    return listening.kind


def _cut(spoken: Samples, seconds: int, decibels: int | None, dice: np.random.Generator) -> Samples:
    begin = int(dice.integers(0, len(spoken) - seconds * RATE_HZ + 1))
    cut = spoken[begin : begin + seconds * RATE_HZ].astype(np.float64)
    if decibels is not None:
        level = np.sqrt(np.mean(np.square(spoken.astype(np.float64)))) * 10 ** (-decibels / 20)
        cut += level * dice.standard_normal(len(cut))
    return np.clip(cut, -32768, 32767).astype("<i2")


def _noise(samples: int, dice: np.random.Generator) -> Samples:
    return (3000 * dice.standard_normal(samples)).astype("<i2")


def _unit(vector: Embedding) -> NDArray[np.float64]:
    return np.asarray(vector / max(float(np.linalg.norm(vector)), 1e-12), np.float64)


def _row(task: Task, outcome: Outcome) -> str:
    def shown(spread: NDArray[np.float64]) -> str:
        return "/".join(f"{100 * value:.0f}" for value in spread)

    chance = np.mean([len(right) for _, right in task.asked]) / len(task.enrolled)
    return (
        f"{task.title:34s} {len(task.asked):3d} of {len(task.enrolled):3d} (chance {chance:4.1%})  "
        f"top 1 {outcome.top_1:6.1%}  top 3 {outcome.top_3:6.1%}  EER {outcome.equal_error:5.1%}  "
        f"same {shown(outcome.same):>10s}  different {shown(outcome.different):>10s}"
    )


if __name__ == "__main__":
    main()
