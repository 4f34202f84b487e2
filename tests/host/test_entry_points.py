"""Entry points read from their files are those that importlib.metadata finds, in every layout."""

import sys
import zipfile
from importlib.machinery import PathFinder
from importlib.metadata import EntryPoint, MetadataPathFinder

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nnkit.host import discovery, distributions
from nnkit.host.entry_points import Point, read_plain

METADATA = "Metadata-Version: 2.1\nName: {}\nVersion: {}\n\nA network.\n"
POINTS = (
    "[console_scripts]\nrun = net:main\n\n[nnkit]\nnet = net.plugin\nother-net = net.plugin:other [extra]\n"
)


def dist(name="net", version="1.0", points=POINTS, metadata=METADATA, suffix=".dist-info", folder=""):
    """Return the files of one distribution, by path."""
    info = f"{folder}{name}-{version}{suffix}"
    files = {f"{info}/METADATA": metadata.format(name, version)}
    return files if points is None else {**files, f"{info}/entry_points.txt": points}


PLAIN = {
    "one distribution": dist(),
    "no distribution": {"net.py": ""},
    "without entry points": dist(points=None),
    "an empty file of entry points": dist(points=""),
    "another group only": dist(points="[console_scripts]\nrun = net:main\n"),
    "a group whose name begins alike": dist(points="[nnkit.commands]\nrun = net:main\n"),
    "comments and blank lines": dist(points="# made by hand\n\n[nnkit]\n\n# the net\nnet = net.plugin\n"),
    "no spaces, and many": dist(points="[nnkit]\na=net.plugin\nb   =   net.plugin  \nc = net : Net [x]\n"),
    "lines of Windows": dist(points=POINTS.replace("\n", "\r\n"), metadata=METADATA.replace("\n", "\r\n")),
    "names of other groups with any signs": dist(points="[themes]\nmaterial/blog = a.b:c\nA b+c = x\n" + POINTS),
    "headers over several lines": dist(metadata="Metadata-Version: 2.1\nName: {}\nLicense: MIT\n        and more: of it\nVersion: {}\nName: second\n\nName: third\n"),
    "no description": dist(metadata="Metadata-Version: 2.1\nName: {}\nVersion: {}\n"),
    "headers in lower case, twice": dist(metadata="name: first\nName: {}\nVersion: {}\n\n"),
    "an author beyond ASCII": dist(metadata="Name: {}\nAuthor: Łukasz\nVersion: {}\n\n☃\n"),
    "two distributions": {**dist(), **dist("Other.Net", "2.0rc1+cpu")},
    "a stale folder beside the new one": {**dist(), **dist(version="2.0", points="[nnkit]\nnet = net.second\n")},
    "the first folder on the path hides the second": {**dist(folder="0/"), **dist(version="2.0", folder="1/"), **dist("last", folder="1/")},
    "an .egg-info folder": {"net-1.0.egg-info/PKG-INFO": METADATA.format("net", "1.0"), "net-1.0.egg-info/requires.txt": "torch"},
    "an .egg-info file": {"net-1.0.egg-info": METADATA.format("net", "1.0")},
}  # fmt: skip

UNUSUAL = {
    "no metadata": {"net-1.0.dist-info/entry_points.txt": POINTS},
    "metadata without a name": dist(metadata="Metadata-Version: 2.1\n\nName: net\n"),
    "metadata without a version": dist(metadata="Name: {}\n\n"),
    "metadata that begins with a blank line": dist(metadata="\n" + METADATA),
    "a name that goes on": dist(metadata="Name: {}\n  work\nVersion: {}\n\n"),
    "a space behind the name": dist(metadata="Name: {} \nVersion: {}\n\n"),
    "metadata of bytes": {**dist(), "net-1.0.dist-info/METADATA": b"Name: net\nVersion: 1\n\n\xff"},
    "points of bytes": {**dist(), "net-1.0.dist-info/entry_points.txt": b"\xff[nnkit]"},
    "another distribution's points of bytes": {**dist(), **dist("z"), "z-1.0.dist-info/entry_points.txt": b"\xff"},
    "a point without a value": dist(points="[nnkit]\nnet\n"),
    "another distribution's point without a value": {**dist(), **dist("z", points="[scripts]\nnet\n")},
    "a point outside of a group": dist(points="net = net.plugin\n" + POINTS),
    "an empty value": dist(points="[nnkit]\nnet =\n"),
    "a value that names no module": dist(points="[nnkit]\nnet = a b\n"),
    "a value of two lines": dist(points="[nnkit]\nnet = net.plugin\n  :other\n"),
    "a group twice": dist(points="[nnkit]\na = net.plugin\n[nnkit]\nb = net.plugin\n"),
    "a point twice": dist(points="[nnkit]\na = net.plugin\na = net.second\n"),
    "defaults": dist(points="[DEFAULT]\na = net.plugin\n[nnkit]\nb = net.plugin\n"),
    "spaces in a group": dist(points="[ nnkit ]\na = net.plugin\n"),
    "a group with more behind": dist(points="[nnkit] x\na = net.plugin\n"),
    "a semicolon": dist(points="[nnkit]\n; a = net.plugin\n"),
    "percent": dist(points="[nnkit]\na = %(b)s\n"),
    "a line separator": dist(points="[nnkit]\na = net\u2028b = net\n"),
    "a form feed": dist(points="[nnkit]\na = net\x0cb = net\n"),
    "PKG-INFO": {"net-1.0.egg-info/PKG-INFO": METADATA.format("net", "1.0"), "net-1.0.egg-info/entry_points.txt": POINTS},
    "a folder without a version": {"net.egg-info/PKG-INFO": METADATA.format("net", "1"), "net.egg-info/entry_points.txt": POINTS},
    "two spellings of one name": {**dist("my_net", folder="0/"), **dist("My.Net", folder="1/")},
    "an egg": {"0.egg/EGG-INFO/PKG-INFO": METADATA.format("net", "1.0"), "0.egg/EGG-INFO/entry_points.txt": POINTS},
    "upper case": {"net-1.0.DIST-INFO/METADATA": METADATA.format("net", "1.0"), "net-1.0.DIST-INFO/entry_points.txt": POINTS},
}  # fmt: skip


@pytest.fixture
def install(tmp_path, monkeypatch):
    """Write files and put their folders on the path, which has nothing else that is installed."""

    def write(files):
        for path, content in files.items():
            (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / path).write_bytes(content if isinstance(content, bytes) else content.encode())
        numbered = sorted(str(each) for each in tmp_path.glob("[0-9]*"))
        monkeypatch.setattr(sys, "path", [*(numbered or [str(tmp_path)]), *_standard_library()])
        # Packages that other tests import may have added finders of distributions; importlib_metadata takes
        # Python's own away.
        find = MetadataPathFinder.find_distributions
        monkeypatch.setattr(PathFinder, "find_distributions", find, raising=False)
        usual = [
            each for each in sys.meta_path if each is PathFinder or not hasattr(each, "find_distributions")
        ]
        monkeypatch.setattr(sys, "meta_path", usual)

    return write


def _standard_library():
    return [entry for entry in sys.path if "python3" in entry and not entry.endswith("-packages")]


def facts(points):
    """Return what is known of each entry point, in plain tuples."""
    return [
        (each.point.name, each.point.value, each.point.group, each.distribution, each.version)
        for each in points
    ]


def found_by_importlib(group="nnkit"):
    return facts(discovery._ask_importlib(group, "")[0])


@pytest.mark.parametrize("layout", PLAIN)
def test_a_usual_layout_is_read_from_its_files(layout, install):
    install(PLAIN[layout])
    assert read_plain("nnkit") is not None
    assert facts(discovery.installed_points("nnkit")[0]) == found_by_importlib()


@pytest.mark.parametrize("layout", UNUSUAL)
def test_any_other_layout_is_left_to_importlib(layout, install):
    install(UNUSUAL[layout])
    assert read_plain("nnkit") is None
    installed, damaged = discovery.installed_points("nnkit")
    assert facts(installed) == found_by_importlib()
    assert damaged == discovery._ask_importlib("nnkit", "")[1]


def test_an_archive_on_the_path_is_left_to_importlib(tmp_path, install, monkeypatch):
    with zipfile.ZipFile(tmp_path / "net.zip", "w") as archive:
        for path, content in dist().items():
            archive.writestr(path, content)
    install(dist("other"))
    assert [owner.name for _, owner in read_plain("nnkit")] == ["other", "other"]
    monkeypatch.setattr(sys, "path", [*sys.path, str(tmp_path / "net.zip")])
    assert read_plain("nnkit") is None
    assert {each.distribution for each in discovery.installed_points("nnkit")[0]} == {"net", "other"}


def test_a_finder_of_another_kind_is_left_to_importlib(install, monkeypatch):
    class Finder:
        @staticmethod
        def find_distributions(context):
            return []

        @staticmethod
        def find_spec(*_):
            return None

    install(dist())
    assert read_plain("nnkit")
    monkeypatch.setattr(sys, "meta_path", [*sys.meta_path, Finder])
    assert read_plain("nnkit") is None


@pytest.mark.parametrize("group", ["nnkit", "console_scripts"])
def test_what_is_installed_here_is_the_same(group):
    if read_plain(group) is None:
        pytest.skip("what is installed here isn't read from its files")
    assert facts(discovery.installed_points(group)[0]) == found_by_importlib(group)


def test_a_point_loads_a_module_or_an_attribute():
    for value in ("zipfile", "zipfile:ZipFile", "zipfile : ZipFile.open", "zipfile:ZipFile [fast]"):
        theirs = EntryPoint("a", value, "nnkit").load()
        assert Point("a", value, "nnkit").load() is theirs


EDITABLE = {
    "__editable___net_1_0_finder.py": "import sys\nclass Finder:\n    @staticmethod\n    def find_spec(*_):\n        return None\nsys.meta_path.append(Finder)\n",
    "__editable__.net-1.0.pth": "import __editable___net_1_0_finder\n",
    "net-1.0.dist-info/direct_url.json": '{"dir_info": {"editable": true}, "url": "file:///net"}',
    **dist(),
}  # fmt: skip
PLACES = {
    "an editable install by a finder": EDITABLE,
    "an editable install by a path file": {"net.pth": "/elsewhere", **dist()},
    "an old editable install, outside of its source": {"net.egg-link": "/elsewhere\n.", "easy-install.pth": "/elsewhere"},
    "an old editable install, in its source": {"net.egg-info/PKG-INFO": METADATA.format("net", "1.0"), "net.egg-info/entry_points.txt": POINTS},
    "an egg as an archive": {"net-1.0-py3.egg": b"PK\x05\x06" + bytes(18)},
    "an egg beside others": {"net-1.0-py3.egg/EGG-INFO/PKG-INFO": METADATA.format("net", "1.0"), "net-1.0-py3.egg/EGG-INFO/entry_points.txt": POINTS},
    "a file where metadata should be": {"net-1.0.dist-info": "", **dist("other")},
    "a folder where metadata should be": {"net-1.0.dist-info/METADATA/x": "", **dist("other")},
    "a broken uninstall": {"~et-1.0.dist-info/METADATA": METADATA.format("net", "1.0"), "~et-1.0.dist-info/entry_points.txt": POINTS},
    "nothing in its metadata": {"net-1.0.dist-info/INSTALLER": "pip"},
    "another encoding": {**dist(), "net-1.0.dist-info/entry_points.txt": POINTS.encode("utf-16")},
    "a byte order mark": {**dist(), "net-1.0.dist-info/entry_points.txt": POINTS.encode("utf-8-sig")},
    "a byte order mark in metadata": {**dist(), "net-1.0.dist-info/METADATA": METADATA.format("net", "1.0").encode("utf-8-sig")},
}  # fmt: skip
LAYOUTS = {**PLAIN, **UNUSUAL, **PLACES}


def outcome(function):
    """Return what a call returns, or the type of what it raises."""
    try:
        return function()
    except Exception as error:
        return type(error)


@given(
    chosen=st.lists(st.sampled_from(sorted(LAYOUTS)), min_size=1, max_size=4),
    order=st.lists(st.sampled_from(["", "0", "1", "2", "3", "0", "net.zip", "absent", "a file"]), max_size=6),
)
@settings(max_examples=120, deadline=None, derandomize=True)
def test_any_path_of_any_layouts_is_read_alike(chosen, order, tmp_path_factory):
    """Layouts in folders of their own, which are on the path in any order, twice or not at all."""
    root = tmp_path_factory.mktemp("path")
    (root / "a file").write_text("")
    with zipfile.ZipFile(root / "net.zip", "w") as archive:
        for path, content in dist("zipped").items():
            archive.writestr(path, content)
    for number, layout in enumerate(chosen):
        for path, content in LAYOUTS[layout].items():
            file = root / str(number) / path
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root / "0")
        entries = [str(root / entry) if entry else "" for entry in order or ["0"]]
        patch.setattr(sys, "path", [*entries, *_standard_library()])
        ours, theirs = (outcome(lambda ask=ask: ask("nnkit")) for ask in ASKED)
        assert ours == theirs
        for name in ("net", "Other_Net", "other", "z", "zipped", "absent"):
            distributions._find.cache_clear()
            assert distributions.find_distribution(name) == distributions._ask_importlib(name), name


def _facts_of(answer):
    installed, damaged = answer
    return facts(installed), damaged


ASKED = (
    lambda group: _facts_of(discovery.installed_points(group)),
    lambda group: _facts_of(discovery._ask_importlib(group, "")),
)
