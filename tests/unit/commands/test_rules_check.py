"""`earshot rules check`: what it prints, and how it ends."""

import json
from pathlib import Path

from click.testing import CliRunner, Result

from gateway.cli import cli


def check(tmp_path: Path, name: str, text: str, *options: str) -> Result:
    file = tmp_path / name
    file.write_text(text, "utf-8")
    return CliRunner().invoke(cli, ["rules", "check", str(file), *options])


BAD = """{"categories": [
  {"category": "退款", "contents": [
    "缺货&&退款",
    "贷款&&",
    {"expression": "customer:退款", "cuont": 2}
  ]}
]}"""


def test_a_fault_is_shown_with_category_line_caret_and_what_was_expected(tmp_path: Path) -> None:
    result = check(tmp_path, "rules.json", BAD)
    assert result.exit_code == 1
    assert result.output.splitlines() == [
        'rules.json:4: error: category "退款": at index 4: expected a keyword, "!" or "(", found the end',
        "    贷款&&",
        "          ^",
        'rules.json:5: error: category "退款": contents[2]: Object contains unknown field `cuont`',
        "3 rules: 2 errors, 0 warnings",
    ]


def test_programs_get_json(tmp_path: Path) -> None:
    result = check(tmp_path, "rules.json", BAD, "--json")
    report = json.loads(result.output)
    assert (result.exit_code, report["rules"], len(report["errors"])) == (1, 3, 2)
    assert report["errors"][0] == {
        "category": "退款",
        "index": 1,
        "line": 4,
        "position": 4,
        "expected": 'a keyword, "!" or "("',
        "message": 'at index 4: expected a keyword, "!" or "(", found the end',
    }


def test_warnings_alone_are_no_failure(tmp_path: Path) -> None:
    result = check(tmp_path, "rules.toml", '[[category]]\nname = "c"\ncontents = ["a b&&!b", "款"]\n')
    assert result.exit_code == 0
    assert result.output.splitlines() == [
        'rules.toml:3: warning: category "c": contents[0] can never be true',
        'rules.toml:3: warning: category "c": contents[0] "b" is one character, which much that is said will hold',
        'rules.toml:3: warning: category "c": contents[1] "款" is one character, which much that is said will hold',
        "2 rules: 0 errors, 3 warnings",
    ]


def test_plain_text_holds_one_expression_a_line() -> None:
    result = CliRunner().invoke(cli, ["rules", "check", "-"], input="# greetings\nhello\n\n hello && (\n")
    assert result.exit_code == 1
    assert result.output.splitlines()[0].startswith('-:4: error: category "rules": at index 10: expected a keyword')
    assert result.output.splitlines()[-1] == "2 rules: 1 error, 0 warnings"


def test_what_comes_in_may_be_json_or_toml() -> None:
    for text in ('[{"category": "c", "contents": ["hello"]}]', '[[categories]]\ncategory="c"\ncontents=["hello"]'):
        result = CliRunner().invoke(cli, ["rules", "check", "-"], input=text)
        assert (result.exit_code, result.output) == (0, "1 rule: 0 errors, 0 warnings\n")


def test_a_file_that_cannot_be_read_as_its_name_says_is_one_fault(tmp_path: Path) -> None:
    for name, text, said in (
        ("a.json", '{"categories": [\n}', "a.json:2: error: not JSON"),
        ("a.toml", "= 1", "a.toml: error: not TOML"),
        ("b.json", "[" * 100_000, "b.json: error: nested too deep to be rules"),
    ):
        result = check(tmp_path, name, text)
        assert result.exit_code == 1
        assert result.output.startswith(said)


def test_a_file_that_is_not_there_or_no_text_says_so(tmp_path: Path) -> None:
    missing = CliRunner().invoke(cli, ["rules", "check", str(tmp_path / "none")])
    assert (missing.exit_code, "cannot be read" in missing.output) == (1, True)
    (tmp_path / "bytes").write_bytes(b"\xff\xfe")
    binary = CliRunner().invoke(cli, ["rules", "check", str(tmp_path / "bytes")])
    assert (binary.exit_code, "is not UTF-8" in binary.output) == (1, True)


def test_monsters_are_refused_in_little_time(tmp_path: Path) -> None:
    monsters = ("(" * 5000 + "a" + ")" * 5000, "||".join(["a"] * 100_000), "!" * 5000 + "a")
    result = check(tmp_path, "rules.txt", "\n".join(monsters))
    assert result.output.count("expected no more than 4096 characters") == 3
    assert result.exception is None or isinstance(result.exception, SystemExit)
