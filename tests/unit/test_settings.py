"""Settings: defaults, then TOML, then the environment, then the command; errors say which and why."""

from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.settings import SECRET, Settings, SettingsError, load, parse_address, parse_apps, parse_fetch_allow


@pytest.fixture(autouse=True)
def _nothing_around(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def toml(tmp_path: Path, text: str, name: str = "some.toml") -> Path:
    path = tmp_path / name
    path.write_text(text, "utf-8")
    return path


def fault(file: Path | None = None, environment: dict[str, str] | None = None, **overrides: Any) -> str:
    with pytest.raises(SettingsError) as refused:
        load(file, environment or {}, overrides)
    return str(refused.value)


def test_the_defaults_are_valid_and_have_no_source() -> None:
    loaded = load(None, {})
    assert loaded.settings == Settings()
    assert loaded.sources == {}
    assert msgspec.convert(msgspec.to_builtins(Settings()), Settings) == Settings()


def test_each_source_overrides_the_one_before(tmp_path: Path) -> None:
    file = toml(tmp_path, 'http = "1.1.1.1:1"\nws = "1.1.1.1:2"\nmax_calls = 7\npinyin = false\n')
    environment = {"EARSHOT_WS": "2.2.2.2:2", "EARSHOT_MAX_CALLS": "8", "HOME": "/root", "EARSHOTS": "no"}
    loaded = load(file, environment, {"max_calls": 9, "data": None})
    assert (loaded.settings.http, loaded.settings.ws, loaded.settings.max_calls) == ("1.1.1.1:1", "2.2.2.2:2", 9)
    assert (loaded.settings.pinyin, loaded.settings.data) == (False, "earshot-data")
    assert loaded.sources == {"http": str(file), "pinyin": str(file), "ws": "environment", "max_calls": "command"}


def test_the_environment_may_name_the_file(tmp_path: Path) -> None:
    file = toml(tmp_path, "max_calls = 7")
    assert load(None, {"EARSHOT_CONFIG": str(file)}).settings.max_calls == 7
    other = toml(tmp_path, "max_calls = 8", "other.toml")
    assert load(other, {"EARSHOT_CONFIG": str(file)}).settings.max_calls == 8


def test_a_file_in_the_working_folder_is_taken_if_it_is_there(tmp_path: Path) -> None:
    toml(tmp_path, "max_calls = 7", "earshot.toml")
    assert load(None, {"EARSHOT_CONFIG": ""}).sources == {"max_calls": "earshot.toml"}


@pytest.mark.parametrize(
    ("variable", "value", "expected"),
    [
        ("MAX_CALLS", "12", 12),
        ("RESUME_WINDOW_S", "2.5", 2.5),
        ("RESUME_WINDOW_S", "60", 60.0),
        ("PINYIN", "false", False),
        ("PINYIN", "1", True),
        ("VAD", "silero", "silero"),
    ],
)
def test_variables_are_read_as_what_their_setting_is(variable: str, value: str, expected: object) -> None:
    loaded = load(None, {f"EARSHOT_{variable}": value})
    assert getattr(loaded.settings, variable.lower()) == expected
    assert loaded.sources == {variable.lower(): "environment"}


@pytest.mark.parametrize(
    ("variable", "value", "expected"),
    [
        ("MAX_CALLS", "many", "Expected `int`"),
        ("MAX_CALLS", "-1", ">= 0"),
        ("MAX_CALLS", "1.5", "Expected `int`"),
        ("DRAIN_S", "nan", ">= 0.0"),
        ("VAD_AGGRESSIVENESS", "4", "<= 3"),
        ("SPEAKER_SCORE", "101", "<= 100"),
        ("PINYIN", "maybe", "Expected `bool`"),
        ("LOG_LEVEL", "loud", "Invalid enum value"),
    ],
)
def test_a_wrong_value_names_source_setting_value_and_what_was_expected(
    variable: str, value: str, expected: str
) -> None:
    text = fault(environment={f"EARSHOT_{variable}": value})
    assert text.startswith(f"environment: {variable.lower()}: ")
    assert expected in text
    assert repr(value) in text


def test_a_wrong_value_of_a_file_or_of_the_command_names_it(tmp_path: Path) -> None:
    file = toml(tmp_path, "max_calls = -3")
    assert fault(file).startswith(f"{file}: max_calls: Expected `int` >= 0")
    assert fault(max_calls="x").startswith("command: max_calls: ")


def test_an_unknown_name_is_refused_wherever_it_stands(tmp_path: Path) -> None:
    assert "environment: no setting is named 'max_callz'" in fault(environment={"EARSHOT_MAX_CALLZ": "1"})
    assert "no setting is named 'calls'" in fault(toml(tmp_path, "[calls]\nmax_calls = 1"))
    assert "command: no setting is named 'x'" in fault(x=1)


def test_a_file_that_is_not_there_or_no_toml_is_named(tmp_path: Path) -> None:
    absent = tmp_path / "absent.toml"
    assert fault(absent) == f"{absent}: cannot be read: No such file or directory"
    assert f"{tmp_path}: cannot be read" in fault(tmp_path)
    broken = toml(tmp_path, "max_calls 5")
    assert fault(broken).startswith(f"{broken}: not TOML: ")
    broken.write_bytes(b"\xff\xfe")
    assert fault(broken).startswith(f"{broken}: not TOML: ")


@pytest.mark.parametrize("name", ["http", "ws"])
@pytest.mark.parametrize("address", ["8080", "host", "host:", "host:http", "host:70000", "host:-1", "host:²", ""])
def test_a_listener_needs_host_and_port(name: str, address: str) -> None:
    text = fault(environment={f"EARSHOT_{name.upper()}": address})
    assert f"{name} is {address!r}; expected host:port" in text
    assert f"({name} from environment)" in text


def test_addresses_are_host_and_port() -> None:
    assert parse_address("http", "127.0.0.1:0") == ("127.0.0.1", 0)
    assert parse_address("http", "[::1]:8080") == ("::1", 8080)
    assert parse_address("http", ":65535") == ("", 65535)


def test_settings_that_need_each_other_say_so_and_where_they_came_from(tmp_path: Path) -> None:
    file = toml(tmp_path, 'tls_cert = "c.pem"')
    assert fault(file) == f"bad settings: tls_cert and tls_key go together (tls_cert from {file})"
    for name in ("voiceprint", "quality"):
        text = fault(environment={f"EARSHOT_{name.upper()}_URL": "http://x"})
        assert f"{name}_url needs {name}_app, as appid:secret ({name}_url from environment)" in text
    pair = {"tls_cert": "c.pem", "tls_key": "k.pem", "quality_url": "http://x", "quality_app": "a:b"}
    assert load(None, {}, pair).settings.tls_key == "k.pem"


def test_apps_may_have_several_secrets() -> None:
    assert parse_apps(" a:1, b:2:3 ,a:4,") == {"a": ("1", "4"), "b": ("2:3",)}
    assert parse_apps("") == {}


@pytest.mark.parametrize("apps", ["hunter2", "a:", ":hunter2", "a:1,hunter2"])
def test_apps_that_cannot_be_read_are_refused_without_being_shown(apps: str) -> None:
    text = fault(environment={"EARSHOT_APPS": apps})
    assert "apps must look like appid:secret,appid:secret (apps from environment)" in text
    assert "hunter2" not in text


@pytest.mark.parametrize("name", sorted(SECRET))
@pytest.mark.parametrize("value", ['["a:hunter2"]', '{a = "hunter2"}'])
def test_a_secret_of_the_wrong_type_is_not_shown(tmp_path: Path, name: str, value: str) -> None:
    file = toml(tmp_path, f"{name} = {value}")
    with pytest.raises(SettingsError, match=f"{name}: Expected `str`") as refused:
        load(file, {})
    assert "hunter2" not in str(refused.value)
    assert "hunter2" not in str(refused.value.__cause__)


@pytest.mark.parametrize("name", ["voiceprint", "quality"])
def test_credentials_without_a_colon_are_not_shown(name: str) -> None:
    text = fault(environment={f"EARSHOT_{name.upper()}_URL": "http://x", f"EARSHOT_{name.upper()}_APP": "hunter2"})
    assert f"{name}_app, as appid:secret" in text
    assert "hunter2" not in text


def test_paths_come_from_the_folders_that_are_set() -> None:
    assert Settings(data="d", models_dir="m").data_path == Path("d")
    assert Settings(models_dir="m").models_path == Path("m")
    assert Settings().models_path.name == "models"


@given(st.dictionaries(st.sampled_from(Settings.__struct_fields__), st.text(max_size=20), max_size=4))
def test_any_environment_gives_settings_or_a_settings_error(values: dict[str, str]) -> None:
    try:
        loaded = load(None, {f"EARSHOT_{name.upper()}": value for name, value in values.items()})
    except SettingsError:
        return
    assert loaded.sources.keys() == values.keys()


def test_a_value_that_is_none_of_the_choices_is_told_them() -> None:
    with pytest.raises(SettingsError, match=r"environment: vad: .* expected one of webrtc\+silero, webrtc, silero"):
        load(None, {"EARSHOT_VAD": "foo"})


def test_inner_addresses_that_may_be_fetched_are_networks_with_a_port() -> None:
    wide, narrow, six = parse_fetch_allow(" 10.1.0.0/16:*, 127.0.0.1/32:8443 ,fd00::/8:443,")
    assert (str(wide.network), wide.port) == ("10.1.0.0/16", None)
    assert (str(narrow.network), narrow.port) == ("127.0.0.1/32", 8443)
    assert (str(six.network), six.port) == ("fd00::/8", 443)


@pytest.mark.parametrize("entry", ["10.1.0.0/16", "10.1.0.0:80", "10.1.0.1/16:80", "10.0.0.0/8:0", "a/8:1", "::1:80"])
def test_a_network_of_another_form_is_refused_by_name(entry: str) -> None:
    assert f"fetch_allow has '{entry}'; expected CIDR:port" in fault(environment={"EARSHOT_FETCH_ALLOW": entry})


KEY = "k" * 32


def test_a_cluster_needs_a_key_that_its_nodes_share() -> None:
    text = fault(environment={"EARSHOT_REDIS_URL": "redis://:hunter2@host"})
    assert "redis_url needs cluster_key" in text
    assert "openssl rand -hex 32" in text
    assert "hunter2" not in text
    assert "shorter than 32" in fault(cluster_key="short")


@pytest.mark.parametrize(
    ("given", "replicated"),
    [
        ({}, False),
        ({"cluster_key": KEY, "redis_url": "redis://host"}, True),
        ({"cluster_key": KEY, "redis_url": "redis://host", "ack": "replica"}, True),
        ({"cluster_key": KEY, "redis_url": "unix:///run/redis.sock", "ack": "local"}, False),
    ],
)
def test_acks_wait_for_redis_where_there_is_one_unless_told_otherwise(given: dict[str, str], replicated: bool) -> None:
    assert load(None, {}, given).settings.replicated is replicated


@pytest.mark.parametrize(
    ("given", "text"), [({"ack": "replica"}, "needs redis_url"), ({"redis_url": "host"}, "redis://")]
)
def test_a_cluster_that_cannot_be_is_refused(given: dict[str, str], text: str) -> None:
    assert text in fault(None, {}, **given)
