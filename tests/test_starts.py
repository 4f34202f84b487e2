"""startup.py: a plugin that dies or never comes back from its import is told as any other."""

import os

from nnkit.host import startup
from nnkit.host.plugins import Plugin


def test_what_dies_and_what_never_ends_is_told(tmp_path, monkeypatch):
    sources = {
        "dying": "import os\nos._exit(7)",
        "endless": "import time\ntime.sleep(60)",
        "loud": "print('{}')\nimport sys\nprint('x', file=sys.__stdout__)",
    }
    for name, source in sources.items():
        (tmp_path / f"starting_{name}.py").write_text(source)
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}{os.pathsep}{os.environ.get('PYTHONPATH', '')}")
    plugins = {name: Plugin(name, f"nnkit-{name}", "1.0", f"starting_{name}") for name in sources}
    found = {each.plugin: each for each in startup.measure([plugins["dying"], plugins["loud"]])}
    monkeypatch.setattr(startup, "PATIENCE", 1)
    (found["endless"],) = startup.measure([plugins["endless"]])
    assert (found["dying"].seconds, found["dying"].error) == (None, "the process ends with 7")
    assert (found["endless"].seconds, found["endless"].error) == (None, "takes more than 1 seconds")
    assert (found["loud"].modules, found["loud"].error) == (1, None)
    assert found["dying"].slow
    assert found["endless"].slow
