"""One grammar for all commands: the list, --help everywhere, and names that do not exist."""

import subprocess
import sys
from pathlib import Path

import pytest
from command import TINY, inside

from pipeline.__main__ import COMMANDS, main, overview
from pipeline.launch import commands
from pipeline.values import UserError

ROOT = Path(__file__).parent.parent


def line(*words, cwd):
    """A command line in a real process."""
    return subprocess.run([sys.executable, "-m", *words], cwd=cwd, capture_output=True, text=True, check=False)


def test_the_list_names_every_command_with_a_line(capsys):
    main([])
    listed = capsys.readouterr().out.splitlines()[2 : 2 + len(COMMANDS)]
    assert [row.split()[0] for row in listed] == list(COMMANDS)
    assert all(len(row.split()) > 4 and len(row) < 120 for row in listed)
    assert {path.stem for path in (ROOT / "pipeline").glob("*.py")} > {*COMMANDS}
    assert overview().startswith("python -m pipeline COMMAND key=value")


def test_an_unknown_command_gets_a_suggestion():
    with pytest.raises(UserError, match=r"command=reprot: did you mean report\? There are: run, status, report"):
        main(["reprot"])


@pytest.mark.parametrize("command", [name for name in COMMANDS if name != "published"])
@pytest.mark.parametrize("flag", ["--help", "-h"])
def test_help_shows_an_example_and_the_keys(command, flag, tmp_path):
    code, out, err = inside(flag, cwd=tmp_path, module=f"pipeline.{command}")
    assert (code, err) == (0, "")
    assert f"python -m pipeline.{command} " in out
    assert "results_dir" in out
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("words", [["run", "--help"], ["status", "nowhere"]], ids=" ".join)
def test_the_list_runs_a_command_as_its_module_does(words, tmp_path):
    command, *others = words
    ended = line("pipeline", *words, cwd=tmp_path)
    assert (ended.returncode, ended.stdout, ended.stderr) == inside(*others, cwd=tmp_path, module=f"pipeline.{command}")


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["run", "model=e5-smal"], "model=e5-smal: did you mean e5-small? There are: "),
        (["run", "trainer.step=3"], "unknown key trainer.step: did you mean steps? There are: steps, batch_size, "),
        (["run", "modle=e5-small"], "unknown key modle: did you mean model? There are: model, sampler, "),
        (["run", "+trainer.step=3"], "unknown key trainer.step: did you mean steps? There are: steps, batch_size, "),
        (["run", "data.language=[en]"], "unknown key data.language: did you mean languages? There are: "),
        (
            ["run", "--config-dir", str(ROOT / "sweeps"), "--config-name", "artikles"],
            "--config-name=artikles: did you ",
        ),
        (["report", "prices=dear"], "prices=dear: There are: arm_example, cpu_example, gpu_example."),
        (["status", "nowhere"], "no sweep nowhere in results: There are: none yet."),
        (["status"], "the first word must name a sweep, a run or a results folder; --help shows an example."),
        (["export", "nothing"], "no run nothing in results: There are: none yet."),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_name_that_does_not_exist_is_one_sentence_and_exit_code_2(words, says, tmp_path):
    command, *others = words
    code, _, err = inside(*others, cwd=tmp_path, module=f"pipeline.{command}")
    assert code == 2
    (message,) = err.splitlines()
    assert message.startswith(f"error: {says}")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("command", ["run", "status", "report", "recommend"])
def test_a_file_where_a_folder_must_be_is_one_sentence(command, tmp_path, monkeypatch):
    """An OSError that nobody turned into a sentence of ours."""
    monkeypatch.setattr("pipeline.launch.runs.attempt", None)  # refused before any work
    (tmp_path / "results/toy").mkdir(parents=True)
    (tmp_path / "results/toy/.store").write_text("")
    words = ["-m", *TINY, "sampler=none", "sweep=toy"] if command == "run" else ["toy"]
    code, out, err = inside(*words, cwd=tmp_path, module=f"pipeline.{command}")
    assert (code, out) == (2, "")
    assert err.splitlines()[-1].startswith("error: ")
    assert "results/" in err.splitlines()[-1]
    assert "Traceback" not in err
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == [".store"]


@pytest.mark.parametrize("word", ["articles", "sweep=articles"])
def test_the_first_word_may_leave_its_key_out(monkeypatch, word):
    monkeypatch.setattr(sys, "argv", ["status", word, "results_dir=elsewhere"])
    assert commands.arguments("", "results_dir") == ("articles", {"results_dir": "elsewhere"})
    commands.sweep_first()
    assert sys.argv[1] == "sweep=articles"
