from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest
from cli_rig import Project

from producer.version import __version__


def test_the_version_needs_no_project(project: Project) -> None:
    project.config.unlink()
    assert project.out("--version") == f"ai-producer, version {__version__}"


@pytest.mark.parametrize(
    ("words", "named"),
    [
        ([], "Missing command"),
        (["nonsense"], "nonsense"),
        (["task"], "Missing command"),
        (["task", "add"], "--agent"),
        (["status", "--nonsense"], "--nonsense"),
        (["task", "list", "--status", "asleep"], "asleep"),
        (["completion", "tcsh"], "tcsh"),
        (["run", "--workers", "code"], "ROLE=N"),
        (["run", "--workers", "nobody=2"], "nobody"),
        (["run", "--workers", "code=257"], "256"),
        (["run", "--workers", "code=-1"], "ROLE=N"),
        (["run", "--invoker", "rm -rf"], "--invoker"),
        (["run", "--rehearse", "missing.yaml"], "missing.yaml"),
        (["task", "import", "missing.json"], "missing.json"),
        (["report", "--date", "2026-02-30"], "2026-02-30"),
        (["report", "--date", "20260506"], "20260506"),
        (["report", "--date", "yesterday"], "yesterday"),
    ],
)
def test_words_that_a_command_does_not_take_are_one_line_and_exit_2(
    project: Project, words: list[str], named: str
) -> None:
    project.add()
    assert named in project.refused(*words)


def test_a_refusal_of_the_program_itself_is_one_line_and_its_exit_code(project: Project) -> None:
    done = project.run("task", "show", "NOPE", code=2)
    assert done.stdout == "" and done.stderr.startswith("error: ") and done.stderr.count("\n") == 1


def test_a_missing_project_is_one_line_that_says_how_to_make_one(project: Project) -> None:
    project.config.unlink()
    assert "producerctl init" in project.refused("status")
    assert not (project.path / "agent-state").exists()


def test_a_broken_config_is_one_line_with_file_line_and_key(project: Project) -> None:
    project.config.write_text("project_name: x\nbudget: {project_ceiling_usd: .nan, agents: {}}\n")
    line = project.refused("task", "add", "--agent", "code", "--title", "t", "--description", "d")
    assert "producer.yaml:2" in line and "project_ceiling_usd" in line
    assert not (project.path / "agent-state").exists(), "something was written"


def test_another_config_is_named_by_option_and_by_environment(project: Project, tmp_path: Path) -> None:
    other = tmp_path / "other" / "producer.yaml"
    other.parent.mkdir()
    other.write_text(project.config.read_text().replace("testbed", "elsewhere"))
    words = ("task", "add", "--agent", "qa", "--title", "t", "--description", "d")
    project.out("--config", str(other), *words)
    assert (tmp_path / "other" / "agent-state" / "ledger.db").exists()
    assert project.out("status", PRODUCER_CONFIG=str(other)).startswith("elsewhere")


@pytest.mark.parametrize("words", [["scale", "code=2"], ["drain"], ["role", "reset", "qa"], ["restart"], ["reload"],
                                   ["stop"], ["logs", "-f"], ["status", "--watch"]])  # fmt: skip
def test_what_needs_a_supervisor_exits_3_without_one(project: Project, words: list[str]) -> None:
    project.add()
    assert "no supervisor is running" in project.refused(*words, code=3)


def test_debug_shows_the_traceback(project: Project) -> None:
    child = project.start("--debug", "task", "show", "NOPE")
    _, stderr = child.communicate(timeout=60)
    assert "Traceback" in stderr and child.returncode != 0


def test_an_interrupt_is_exit_130_without_a_traceback(project: Project) -> None:
    project.add()
    child = project.start("status", "--watch", "--json")
    assert child.stdout is not None and child.stdout.readline().startswith("{")
    child.send_signal(signal.SIGINT)
    _, stderr = child.communicate(timeout=60)
    assert child.returncode == 130
    assert stderr == "error: interrupted\n"


def test_a_reader_that_leaves_early_is_no_error_on_the_screen(project: Project) -> None:
    with project.client() as ledger:
        drafts = [{"agent_owner": "code", "title": f"task {n}", "description": "x" * 200} for n in range(900)]
        ledger.insert_tasks(drafts)
    child = project.start("task", "list", "--json")
    assert child.stdout is not None
    child.stdout.read(10)
    child.stdout.close()
    assert child.stderr is not None
    stderr = child.stderr.read()
    child.wait(timeout=60)
    assert "Traceback" not in stderr and "BrokenPipe" not in stderr


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_names_the_program(project: Project, shell: str) -> None:
    assert "_PRODUCERCTL_COMPLETE" in project.out("completion", shell)


def test_completion_completes_commands(project: Project) -> None:
    assert completed(project, "producerctl sta") == ["status"]
    assert completed(project, "producerctl task add --ag") == ["--agent"]


def completed(project: Project, words: str, **env: str) -> list[str]:
    """What is offered for the last of these words."""
    parts = words.split(" ")
    asked = {"_PRODUCERCTL_COMPLETE": "bash_complete", "COMP_WORDS": words, "COMP_CWORD": str(len(parts) - 1)}
    return [line.split(",", 1)[1] for line in project.out(**asked, **env).splitlines()]


def test_completion_completes_roles_and_tasks(project: Project) -> None:
    first, second = project.add("one"), project.add("two")
    with project.client() as ledger:
        ledger.claim_task(second, "code")
    assert completed(project, "producerctl task show ") == [second, first], "what runs comes first"
    assert completed(project, f"producerctl logs -f {first[:-1]}") == [first]
    assert completed(project, "producerctl task add --agent c") == ["code"]
    assert completed(project, "producerctl scale c") == ["code="]
    assert completed(project, f"producerctl task route {first} q") == ["qa"]
    assert completed(project, f"producerctl --config {project.config} drain q", PRODUCER_CONFIG="/nowhere") == ["qa"]


def test_completion_is_silent_where_there_is_no_project(project: Project) -> None:
    project.config.write_text("budget: [\n")
    assert completed(project, "producerctl task show ") == completed(project, "producerctl drain ") == []


def test_the_help_says_of_every_command_what_the_command_says_of_itself() -> None:
    import click

    from producer.cli.root import COMMANDS, root

    context = click.Context(root)
    for name, (_, text) in COMMANDS.items():
        command = root.get_command(context, name)
        assert command is not None and command.get_short_help_str(200) == text


def test_the_help_imports_no_command(project: Project) -> None:
    code = "import sys; from producer.cli import execute; execute(['--help']); print(*sys.modules, file=sys.stderr)"
    ran = subprocess.run([sys.executable, "-c", code], env=project.env, capture_output=True, text=True, check=True)
    assert "Commands:" in ran.stdout
    loaded = ran.stderr.split()
    assert not {"pydantic", "zmq", "apsw", "claude_agent_sdk", "asyncio"} & set(loaded), "nothing heavy"
