"""The names of a zoo: kept under its version, made again as soon as anything changes, harmed by nothing."""

import os
import subprocess
import sys
from hashlib import sha256
from importlib.metadata import distribution, version
from pathlib import Path
from zlib import crc32

import pytest

from nnkit.contract.catalog import CatalogRow
from nnkit.contract.namespace import Namespace
from nnkit.errors import PluginProblem, UsageProblem
from nnkit.host import zoo_index
from nnkit.host.cache import cache_folder, keep_newest
from nnkit.host.distributions import find_distribution, fingerprint
from nnkit.host.zoo_index import package_folder, read_names
from nnkit.host.zoos import zoos

PLUGIN = """
import sys, time
from pathlib import Path
from nnkit import Architecture, Dim, Namespace, OpenField, TensorSpec, ZooName, hookimpl, open_config

NNKIT_PLUGIN_API = "1.1"

@hookimpl
def nnkit_namespaces():
    return [Namespace(prefix="{prefix}", summary="layers", package="zoo_of_layers", distribution="zoo-of-layers",
                      install="pip install zoo-of-layers", names=__name__ + ":names", declare=__name__ + ":declare")]

def names(folder):
    with (folder.parent / "asked").open("a") as file:
        file.write("x")
{names}

def declare(request):
    return Architecture(
        name=request.name, summary="a layer", build="torch.nn:Linear", config=open_config("Options", {{}}),
        inputs=[TensorSpec("input", ("batch", 8))], outputs=[TensorSpec("output", ("batch", 8))],
        dims={{"batch": Dim(default=1)}})
"""
READ = '    return [ZooName(line, "layers") for line in (folder / "nets.py").read_text().split()]'


@pytest.fixture
def zoo(tmp_path, monkeypatch, plugins_from):
    """Return a function that makes a manager of a plugin whose zoo has some names, installed with a RECORD."""
    package, info = tmp_path / "zoo_of_layers", tmp_path / "zoo_of_layers-1.0.dist-info"
    monkeypatch.setenv("NNKIT_CACHE", str(tmp_path / "cache"))

    def make(text="one\ntwo\n", names=READ, number="1.0", prefix="layers", environment=None):
        package.mkdir(exist_ok=True)
        info.mkdir(exist_ok=True)
        (package / "__init__.py").write_text("")
        (package / "nets.py").write_text(text)
        (info / "METADATA").write_text(f"Name: zoo-of-layers\nVersion: {number}\n")
        (info / "RECORD").write_text(f"zoo_of_layers/nets.py,sha256={sha256(text.encode()).hexdigest()},\n")
        find_distribution.__globals__["_find"].cache_clear()
        # Python checks its bytecode by the second, and these tests are faster.
        for cached in (tmp_path / "__pycache__").glob("*"):
            cached.unlink()
        sys.modules.pop("plugin_under_test_zoo", None)
        environment = {"NNKIT_CACHE": str(tmp_path / "cache")} if environment is None else environment
        manager = plugins_from(environment, zoo=PLUGIN.format(names=names, prefix=prefix))
        # The same source has the same date, as if it had not been written again.
        date = int(sha256(names.encode()).hexdigest()[:8], 16)
        os.utime(tmp_path / "plugin_under_test_zoo.py", (date, date))
        return manager

    yield make
    find_distribution.__globals__["_find"].cache_clear()


def times_asked(tmp_path):
    return len((tmp_path / "asked").read_text())


def files_in(tmp_path):
    return sorted((tmp_path / "cache").rglob("*.tsv"))


def test_names_are_read_once_for_each_version(zoo, tmp_path):
    for _ in range(3):
        assert zoo().members("layers") == {"one": "layers", "two": "layers"}
    assert times_asked(tmp_path) == 1
    (kept,) = files_in(tmp_path)
    assert kept.name.startswith("layers-1.0-")
    assert zoo("one\n", number="2.0").members("layers").keys() == {"one"}
    assert zoo("three\n", number="2.0").members("layers").keys() == {"three"}
    assert zoo("one\ntwo\n").members("layers").keys() == {"one", "two"}
    assert times_asked(tmp_path) == 3


def test_another_adapter_reads_the_names_anew(zoo):
    assert zoo().members("layers").keys() == {"one", "two"}
    changed = READ.replace("ZooName(line,", "ZooName('other-' + line,")
    assert zoo(names=changed).members("layers").keys() == {"other-one", "other-two"}


@pytest.mark.parametrize(
    "harm",
    [
        lambda text: text[: len(text) // 2],
        lambda text: b"",
        lambda text: text.replace(b"one", b"ono"),
        lambda text: text + b"three\tlayers\n",
        lambda text: b"\xff\xfe" + text,
        lambda text: text.replace(b"names 1", b"names 0"),
        lambda text: text.replace(b"\t2\t", b"\t3\t"),
        lambda text: text.replace(b"\t2\t", b"\ttwo\t"),
        lambda text: text.split(b"\n")[0],
        lambda text: os.urandom(4096),
    ],
)
def test_a_damaged_file_is_made_again(zoo, tmp_path, harm):
    zoo().members("layers")
    (kept,) = files_in(tmp_path)
    whole = kept.read_bytes()
    kept.write_bytes(harm(whole))
    manager = zoo()
    assert manager.members("layers").keys() == {"one", "two"}, manager.failures
    assert kept.read_bytes() == whole
    assert times_asked(tmp_path) == 2


@pytest.mark.parametrize("hostile", ["\x1b[31mred\tlayers\n", "red\t\x1b[31mlayers\n", "--help\tlayers\n"])
def test_a_whole_file_with_names_that_nnkit_would_not_write_is_made_again(zoo, tmp_path, hostile):
    zoo().members("layers")
    (kept,) = files_in(tmp_path)
    kept.write_text(f"{zoo_index.HEADER}\t1\t{crc32(hostile.encode())}\n{hostile}")
    assert zoo().members("layers").keys() == {"one", "two"}


def test_a_folder_that_cannot_be_written_to_is_left_alone(zoo, tmp_path):
    (tmp_path / "cache").write_text("this is a file")
    assert zoo().members("layers").keys() == {"one", "two"}
    assert not zoo().failures
    assert (tmp_path / "cache").read_text() == "this is a file"


def test_a_folder_in_place_of_the_file_is_left_alone(zoo, tmp_path):
    zoo().members("layers")
    (kept,) = files_in(tmp_path)
    kept.unlink()
    (kept / "inside").mkdir(parents=True)
    assert zoo().members("layers").keys() == {"one", "two"}
    assert [path.name for path in kept.parent.iterdir()] == [kept.name]


def test_without_a_cache_nothing_is_written(zoo, tmp_path):
    for _ in range(2):
        zoo(environment={"NNKIT_CACHE": "off"}).members("layers")
    assert times_asked(tmp_path) == 2
    assert not (tmp_path / "cache").exists()


def test_a_few_lists_are_kept_and_no_drafts(zoo, tmp_path):
    for number in range(zoo_index.MOST_KEPT + 4):
        zoo(f"net-{number}\n", number=f"1.{number}").members("layers")
    names = os.listdir(tmp_path / "cache" / "zoos")
    assert len(names) == zoo_index.MOST_KEPT
    assert all(name.endswith(".tsv") for name in names)


def test_what_another_process_removes_meanwhile_does_not_matter(tmp_path, monkeypatch):
    for number in range(3):
        (tmp_path / f"a-{number}.tsv").write_text("")
    monkeypatch.setattr(Path, "glob", lambda folder, pattern: [folder / "a-0.tsv", folder / "gone.tsv"])
    keep_newest(tmp_path, "a-*.tsv", 0)
    assert sorted(os.listdir(tmp_path)) == ["a-1.tsv", "a-2.tsv"]


WRITER = """
import sys
from pathlib import Path
from nnkit.host.cache import write_whole
body = sys.argv[2] * 200_000
for _ in range(50):
    assert write_whole(Path(sys.argv[1]), body)
"""


def test_writers_at_once_leave_one_whole_file(tmp_path):
    """Readers meanwhile see one of both texts, never a part or a mixture."""
    file = tmp_path / "zoos" / "names.tsv"
    writers = [subprocess.Popen([sys.executable, "-c", WRITER, str(file), sign]) for sign in "ab"]
    seen = set()
    while any(writer.poll() is None for writer in writers):
        if file.exists():
            seen.add(file.read_text())
    assert [writer.returncode for writer in writers] == [0, 0]
    assert seen <= {"a" * 200_000, "b" * 200_000}
    assert seen
    assert os.listdir(file.parent) == ["names.tsv"]


# What an adapter may do wrong

ENDLESS = "    while True:\n        time.sleep(0.01)"
FOREVER = '    number = 0\n    while True:\n        number += 1\n        yield ZooName(f"net-{number}")'


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ("    raise KeyError('models')", "KeyError: 'models'"),
        ("    sys.exit(5)", "SystemExit: 5"),
        ("    return None", "TypeError: 'NoneType' object is not iterable"),
        (ENDLESS, "TimeoutError: takes more than 0.2 seconds"),
        (FOREVER, "never ends"),
        ("    import no_such_module", "ModuleNotFoundError: No module named 'no_such_module'"),
    ],
)
def test_names_that_cannot_be_read_are_one_failure(zoo, tmp_path, monkeypatch, names, message):
    if names == ENDLESS:
        monkeypatch.setattr(zoo_index, "PATIENCE", 0.2)
    manager = zoo(names=names)
    assert manager.members("layers") == manager.members("layers") == {}
    (failure,) = manager.failures
    assert message in failure.message
    assert (failure.plugin, failure.stage, failure.harmless) == ("zoo", "names of layers/", False)
    assert not files_in(tmp_path)
    with pytest.raises(PluginProblem, match="failed at names of layers/"):
        manager.find("layers/one")


@pytest.mark.parametrize(
    ("names", "fault"),
    [
        ('    print("hello")\n' + READ, "it prints to stdout"),
        ("    import json\n    json.dumps = None\n" + READ, "it replaces json.dumps"),
        ("    import os\n    os.chdir('/')\n" + READ, "the working folder"),
        ("    sys.modules['tensorflow'] = None\n" + READ, "it imports tensorflow"),
    ],
)
def test_what_an_adapter_does_besides_is_undone_and_told(zoo, monkeypatch, capsys, names, fault):
    monkeypatch.setitem(sys.modules, "tensorflow", None)
    del sys.modules["tensorflow"]
    folder = Path.cwd()
    manager = zoo(names=names)
    assert manager.members("layers").keys() == {"one", "two"}
    (failure,) = manager.failures
    assert fault in failure.message
    assert failure.harmless
    assert capsys.readouterr().out == ""
    assert Path.cwd() == folder
    again = zoo(names=names)
    assert again.members("layers").keys() == {"one", "two"}
    assert not again.failures  # the names were kept


def test_names_that_cannot_be_typed_are_left_out(zoo):
    hostile = (
        "    return [ZooName('one'), ZooName('über'), ZooName('a b'), ZooName('--help'), ZooName(''), 'two', 3,\n"
        "            ZooName('a\\tb'), ZooName('a\\n[31m'), ZooName('../../etc'), ZooName('x', 'two\\twords\\nof it')]"
    )
    for _ in range(2):
        manager = zoo(names=hostile)
        assert manager.members("layers") == {"one": "", "x": "two words of it"}
    manager = zoo(names=hostile + "\n    # another file")
    manager.members("layers")
    (failure,) = manager.failures
    assert "9 names can't be typed, such as ZooName(name='über', family='')" in failure.message


def test_a_hostile_version_stays_in_the_folder(zoo, tmp_path):
    zoo(number="../../../1.0 \u202e").members("layers")
    (kept,) = files_in(tmp_path)
    assert kept.parent == tmp_path / "cache" / "zoos"


# Which of two has a prefix


def test_a_prefix_belongs_to_the_first_plugin_and_the_second_is_told(zoo, plugins_from):
    source = PLUGIN.format(names=READ, prefix="layers")
    zoo()
    manager = plugins_from({"NNKIT_CACHE": "off"}, zoo_a=source, zoo_b=source)
    assert manager.members("layers").keys() == {"one", "two"}
    (failure,) = manager.failures
    assert (failure.plugin, failure.message) == (
        "zoo_b",
        "namespace 'layers': the name is already taken",
    )


@pytest.mark.parametrize("other", ["aaa", "zzz"])
def test_a_prefix_is_never_the_name_of_another_plugin(zoo, plugins_from, other):
    zoo()
    source = PLUGIN.format(names=READ, prefix=other)
    manager = plugins_from({"NNKIT_CACHE": "off"}, mmm=source, **{other: 'NNKIT_PLUGIN_API = "1.1"'})
    assert manager.namespaces() == {}
    (failure,) = manager.failures
    assert (failure.plugin, failure.message) == ("mmm", f"namespace {other!r}: the name is already taken")


# What is suggested


def test_a_name_without_its_prefix_is_found_in_the_zoo(zoo):
    manager = zoo("convnext_tiny\nconvnext_small\n")
    for typed in ("convnext_tiny", "convnext_tny"):
        with pytest.raises(UsageProblem, match="unknown architecture") as caught:
            manager.find(typed)
        assert "layers/convnext_tiny" in caught.value.hint
    with pytest.raises(UsageProblem) as caught:
        manager.find("convnext_tiny")
    assert caught.value.hint == "did you mean layers/convnext_tiny?"


# What can't be used

UNUSABLE = """
from nnkit import Namespace, ZooName, hookimpl

NNKIT_PLUGIN_API = "1.1"

@hookimpl
def nnkit_namespaces():
    return [Namespace(prefix="layers", summary="layers", package="{package}", distribution="zoo-of-layers",
                      install="pip install zoo-of-layers", names=__name__ + ":names", declare="{declare}")]

def names(folder):
    return [ZooName("one", "layers")]

def declare(request):
    {body}
"""
DECLARE = "plugin_under_test_zoo:declare"


@pytest.mark.parametrize(
    ("sources", "declare", "body", "message", "hint"),
    [
        (
            {"zoo_of_layers": "import operators_of_layers", "operators_of_layers": "raise RuntimeError('no such operator')"},
            DECLARE,
            "import zoo_of_layers",
            "layers/one can't be declared, because operators_of_layers can't be imported: RuntimeError: no such operator",
            "install a version of operators_of_layers that fits zoo_of_layers and torch",
        ),
        (
            {
                "adapter_of_layers": "from zoo_of_layers import declare",
                "zoo_of_layers": "try:\n    import operators_of_layers\nexcept RuntimeError as error:\n"
                "    raise ImportError('could not import Net') from error",
                "operators_of_layers": "raise RuntimeError('no such operator')",
            },
            "adapter_of_layers:declare",
            "",
            "because operators_of_layers can't be imported: RuntimeError: no such operator",
            "operators_of_layers",
        ),
        (
            {"zoo_of_layers": "import no_such_package.inside"},
            DECLARE,
            "import zoo_of_layers",
            "layers/one needs the package no_such_package: ModuleNotFoundError",
            "install no_such_package",
        ),
        (
            {"zoo_of_layers": ""},
            DECLARE,
            "return {}['depth']",
            "layers/one can't be declared: KeyError: 'depth'",
            "report it to the author of the plugin",
        ),
        ({"zoo_of_layers": ""}, DECLARE, "return 5", "returned 5 for layers/one; expected Architecture", "report it"),
    ],
    ids=["a dependency fails", "behind another error", "a dependency is missing", "the adapter fails", "another type"],
)  # fmt: skip
def test_the_error_names_what_is_to_blame(
    tmp_path, monkeypatch, plugins_from, sources, declare, body, message, hint
):
    for name, source in sources.items():
        folder = tmp_path / name
        folder.mkdir()
        (folder / "__init__.py").write_text(source)
    source = UNUSABLE.format(package="zoo_of_layers", declare=declare, body=body or "pass")
    manager = plugins_from({"NNKIT_CACHE": "off"}, zoo=source)
    with pytest.raises(PluginProblem) as caught:
        manager.find("layers/one")
    assert message in caught.value.message
    assert hint in caught.value.hint
    for name in sources:
        sys.modules.pop(name, None)


def test_a_zoo_that_is_not_installed_lists_what_its_catalog_knows(plugins_from, tmp_path, monkeypatch):
    source = UNUSABLE.format(package="zoo_not_installed", declare=DECLARE, body="pass")
    manager = plugins_from({"NNKIT_CACHE": "off"}, zoo=source)
    row = CatalogRow(name="one", family="layers", version="1.0")
    monkeypatch.setattr(type(manager), "catalog", lambda self, prefix: {"one": row})
    assert manager.members("layers") == {}
    assert manager.known_members("layers") == {"one": "layers"}
    (zoo_of_layers,) = zoos(manager)
    assert (zoo_of_layers.installed, zoo_of_layers.architectures) == (False, 1)
    assert zoo_of_layers.state == "not installed: pip install zoo-of-layers"
    with pytest.raises(PluginProblem, match="layers/one needs the package zoo_not_installed"):
        manager.find("layers/one")


# Versions and folders


@pytest.mark.parametrize(
    "name", ["timm", "torchvision", "transformers", "torch-geometric", "torch_geometric"]
)
def test_a_distribution_is_the_one_that_importlib_finds(name):
    found = find_distribution(name)
    assert found is not None
    assert found.version == version(name)
    record = distribution(name).read_text("RECORD")
    package = Path(found.folder).parent / name.replace("-", "_")
    assert record is not None
    assert fingerprint(found, package) == sha256(Path(found.folder, "RECORD").read_bytes()).hexdigest()


def test_what_is_not_installed_is_none():
    assert find_distribution("no-such-distribution") is None
    assert package_folder(namespace(package="no_such_package")) is None
    assert package_folder(namespace(package="no_such_package.inside")) is None


def namespace(package):
    return Namespace(
        prefix="x", summary="x", package=package, distribution="x", install="x", names="x:names", declare="x:declare"
    )  # fmt: skip


def test_an_edited_file_of_a_mere_folder_changes_its_fingerprint(tmp_path):
    (tmp_path / "models").mkdir()
    file = tmp_path / "models" / "net.py"
    file.write_text("a")
    os.utime(file, ns=(1, 1))
    seen = {fingerprint(None, tmp_path)}
    os.utime(file, ns=(2, 2))
    seen.add(fingerprint(None, tmp_path))
    (tmp_path / "other.py").write_text("a")
    seen.add(fingerprint(None, tmp_path))
    (tmp_path / "notes.txt").write_text("not code")
    assert fingerprint(None, tmp_path) in seen
    assert len(seen) == 3


def test_the_folder_of_the_cache(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("LOCALAPPDATA", str(tmp_path))
    assert cache_folder("auto") == tmp_path / "nnkit"
    assert cache_folder("off") is None
    assert cache_folder(str(tmp_path / "own")) == tmp_path / "own"
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert cache_folder("~/own") == tmp_path / "home" / "own"
    if sys.platform == "linux":
        monkeypatch.delenv("XDG_CACHE_HOME")
        assert cache_folder("auto") == tmp_path / "home" / ".cache" / "nnkit"


def test_reading_without_a_cache_needs_no_folder(tmp_path):
    with pytest.raises(PluginProblem, match="can't load x:names"):
        read_names(namespace("json"), tmp_path)
