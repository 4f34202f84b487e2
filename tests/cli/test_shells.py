"""Completion in the shells themselves, each with the script that `nnkit completion` prints."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

CASES = {
    "nnkit smoke-r": "smoke-run",
    "nnkit summary simple": "simple-cnn",
    "nnkit export gcn --format saf": "safetensors",
    "nnkit summary resnet18 --preset cif": "cifar10",
}
SHELLS = {
    # Each sources the script as its user would, types the words and prints what it is offered.
    "bash": """
        . ./script
        COMP_WORDS=($LINE); COMP_CWORD=$((${#COMP_WORDS[@]} - 1))
        $(complete -p nnkit | sed 's/.*-F \\([^ ]*\\) .*/\\1/') nnkit
        printf '%s\\n' "${COMPREPLY[@]}"
    """,
    "zsh": """
        compdef() { :; }; compadd() { printf '%s\\n' "${completions[@]}"; }
        _describe() { printf '%s\\n' "${completions_with_descriptions[@]%%:*}"; }
        . ./script
        words=(${(z)LINE}); CURRENT=${#words}
        _nnkit_completion
    """,
    "fish": """
        source ./script
        complete --do-complete "$LINE"
    """,
    "pwsh": """
        . ./script.ps1
        (TabExpansion2 $env:LINE $env:LINE.Length).CompletionMatches | ForEach-Object CompletionText
    """,
}
NAMES = {"pwsh": "powershell"}


@pytest.fixture(params=SHELLS)
def shell(request):
    if shutil.which(request.param) is None:
        pytest.skip(f"{request.param} is not installed")
    return request.param


def test_a_shell_completes_by_the_script(shell, nnkit_command, tmp_path):
    done = nnkit_command("completion", NAMES.get(shell, shell))
    assert (done.code, done.err) == (0, "")
    Path("script.ps1" if shell == "pwsh" else "script").write_text(done.out)
    program = tmp_path / "bin" / "nnkit"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m nnkit "$@"\n')
    program.chmod(0o755)
    for line, expected in CASES.items():
        environment = {**os.environ, "LINE": line, "PATH": f"{program.parent}:{os.environ['PATH']}"}
        flag = "-Command" if shell == "pwsh" else "-c"
        found = subprocess.run(
            [shell, flag, SHELLS[shell]],
            capture_output=True,
            text=True,
            env={**environment, "HOME": str(tmp_path)},
            check=False,
        )
        offered = [
            each.partition("\t")[0] for each in found.stdout.splitlines()
        ]  # fish tells what it is, too
        assert offered == [expected], f"{line}\n{found.stdout}{found.stderr}"


def test_a_tab_in_bash_writes_the_rest_of_the_word(tmp_path):
    """The key itself, in an interactive bash on a terminal."""
    import pty
    import select

    program = tmp_path / "nnkit"
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m nnkit "$@"\n')
    program.chmod(0o755)
    screen, keyboard = pty.openpty()
    bash = subprocess.Popen(
        ["bash", "--norc", "--noprofile", "-i"],
        stdin=keyboard,
        stdout=keyboard,
        stderr=keyboard,
        env={**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}", "PS1": "ready> ", "TERM": "dumb"},
        start_new_session=True,
    )
    os.close(keyboard)

    def until(text: str) -> str:
        seen = ""
        while text not in seen and select.select([screen], [], [], 60)[0]:
            seen += os.read(screen, 4096).decode()
        assert text in seen, seen
        return seen

    try:
        until("ready> ")
        os.write(screen, b'eval "$(nnkit completion bash)"; echo done-$((1 + 1))\n')
        until("done-2")  # what is typed before the prompt is there is read after it
        os.write(screen, b"nnkit summary vgg19-b\t")
        until("vgg19-bn")
    finally:
        bash.kill()
        bash.wait()
        os.close(screen)


def test_the_script_of_powershell_asks_nnkit(nnkit_command):
    script = nnkit_command("completion", "powershell").out
    assert script.startswith("Register-ArgumentCompleter -Native -CommandName nnkit ")
    assert "$env:_NNKIT_COMPLETE = 'powershell_complete'" in script


def test_a_shell_that_is_not_known(nnkit_command):
    done = nnkit_command("completion", "zhs")
    assert done.code == 2
    assert "'zhs' is not one of" in done.err.splitlines()[0]
    assert done.err.splitlines()[1] == "hint: did you mean zsh?"
