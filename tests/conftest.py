"""What every test may rely on."""

import importlib.util
import os
import signal
import site
import subprocess
import sys
import venv
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest
import torch

from nnkit.cli.main import main
from nnkit.host.configuration import configure
from nnkit.host.plugin_manager import PluginManager
from nnkit.verbs.core_handlers import make_manager, plugin_manager

ROOT = Path(__file__).parent.parent

if "PYTEST_XDIST_WORKER" in os.environ:
    # Each worker has a core; more threads of OpenMP would spin, waiting for one.
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    torch.set_num_threads(1)

# Commands started here can be interrupted, also where whatever started pytest ignores Ctrl-C, as nohup and & do.
signal.signal(signal.SIGINT, signal.default_int_handler)

_KEPT: list[torch.library.Library] = []  # definitions live as long as the object that made them


def _declare_torchvision_operators() -> None:
    """Declare the schemas of torchvision's compiled operators where its wheel can't load them.

    Beside a CPU build of torch the compiled library doesn't load, and `import torchvision` then dies
    registering fake kernels for operators that don't exist. No test calls one of them.
    """
    spec = importlib.util.find_spec("torchvision")
    if spec is None or hasattr(torch.ops.torchvision, "nms"):
        return
    library = torch.library.Library("torchvision", "DEF")
    _KEPT.append(library)
    for operator in ("nms", "qnms"):
        library.define(f"{operator}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")


_declare_torchvision_operators()


@dataclass
class Result:
    """What a command did."""

    code: int
    out: str
    err: str


@pytest.fixture
def nnkit_command(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Callable[..., Result]:
    """Run the command line in this process, in an empty folder: `nnkit_command("list", "--json")`."""
    monkeypatch.chdir(tmp_path)

    def run(*args: str) -> Result:
        capsys.readouterr()
        with pytest.raises(SystemExit) as ending:
            main(args)
        captured = capsys.readouterr()
        return Result(int(ending.value.code or 0), captured.out, captured.err)

    return run


@pytest.fixture(scope="session", autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Keep what can be made again in a folder of the tests, not in the user's."""
    with pytest.MonkeyPatch.context() as patch:
        for variable in ("XDG_CACHE_HOME", "LOCALAPPDATA"):
            patch.setenv(variable, str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture
def fresh_plugins() -> Iterator[None]:
    """Look the plugins up anew before and after the test."""
    plugin_manager.cache_clear()
    yield
    plugin_manager.cache_clear()


@pytest.fixture
def plugins_from(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., PluginManager]]:
    """Make a manager of plugins written on the spot: `plugins_from(good="NNKIT_PLUGIN_API = ...")`."""
    monkeypatch.syspath_prepend(str(tmp_path))
    names: list[str] = []

    def make(environment: dict[str, str] | None = None, **sources: str) -> PluginManager:
        points = []
        for name, source in sources.items():
            module = f"plugin_under_test_{name}"
            (tmp_path / f"{module}.py").write_text(source)
            names.append(module)
            points.append(EntryPoint(name=name, value=module, group="nnkit"))
        return make_manager(points, configure(environment or {}))

    yield make
    for name in names:
        sys.modules.pop(name, None)


@dataclass
class Environment:
    """A virtual environment of its own, on top of the packages that the tests run with."""

    python: Path

    def install(self, *what: str) -> None:
        """Install with pip, building with what is here already."""
        command = [sys.executable, "-m", "pip", "--python", str(self.python), "install", "--quiet"]
        quiet = ["--no-deps", "--no-build-isolation", "--disable-pip-version-check"]
        subprocess.run([*command, *quiet, *what], check=True, capture_output=True, text=True)

    def run(self, *args: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
        """Run Python in it; `run("-m", "nnkit", "list")`."""
        return subprocess.run([str(self.python), *args], capture_output=True, text=True, cwd=cwd, check=False)


@pytest.fixture
def environment(tmp_path: Path) -> Callable[[bool], Environment]:
    """Make a temporary environment; `environment(False)` has the packages, but not this nnkit."""

    def make(with_nnkit: bool = True) -> Environment:
        return make_environment(tmp_path / "environment", with_nnkit)

    return make


def make_environment(folder: Path, with_nnkit: bool = True) -> Environment:
    """Make an environment in `folder`, with the packages that the tests run with, nnkit among them or not."""
    venv.create(folder, symlinks=True, with_pip=False)
    python = folder / "bin" / "python"
    packages = Path(site.getsitepackages()[0])
    # addsitedir also reads the .pth file of an editable install, a plain path does not.
    line = f"import site; site.addsitedir({str(packages)!r})" if with_nnkit else str(packages)
    target = next((folder / "lib").glob("python*/site-packages"))
    (target / "packages.pth").write_text(line + "\n")
    return Environment(python)


@pytest.fixture
def shell(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let `nnkit` be this environment's."""
    path = Path(sys.executable).parent
    monkeypatch.setenv("PATH", f"{path}:/usr/bin:/bin")


def python(*args: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Run Python with `args` in a process of its own."""
    return subprocess.run([sys.executable, *args], capture_output=True, text=True, cwd=cwd, check=False)


__all__: Sequence[str] = ["ROOT", "Environment", "Result", "python"]
