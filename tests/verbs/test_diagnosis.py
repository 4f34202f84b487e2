"""What `nnkit doctor` finds: packages that raise, hang or abort when they are imported, and the rest."""

import json
import os

import jsonschema
import pytest
import torch
from conftest import ROOT, python

from nnkit.verbs import diagnosis


@pytest.fixture
def packages(tmp_path, monkeypatch):
    """Install modules that are imported before the real ones: `packages(timm="raise ImportError")`."""

    def install(**sources):
        for name, source in sources.items():
            (tmp_path / f"{name}.py").write_text(source)
        monkeypatch.setenv("PYTHONPATH", f"{tmp_path}{os.pathsep}{os.environ.get('PYTHONPATH', '')}")
        monkeypatch.setattr(diagnosis, "OPTIONAL", {name: name for name in sources})

    return install


def test_broken_packages_are_named_with_the_reason(packages, monkeypatch):
    packages(
        timm="raise RuntimeError('no such operator')",
        torchvision="import os; os.abort()",
        transformers="import time; time.sleep(60)",
        openvino="print('sound')",
        torch="",
    )
    monkeypatch.setattr(diagnosis, "IMPORT_LIMIT", 3)
    monkeypatch.setattr(diagnosis, "NEEDED", ("click", "torch", "nothing-of-the-kind"))
    found = diagnosis.diagnose()
    assert found.broken == {
        "timm": "RuntimeError: no such operator",
        "torchvision": "its import is killed by signal 6",
        "transformers": "its import takes more than 3 seconds",
    }
    assert found.packages["torch"] == torch.__version__
    assert found.packages["nothing-of-the-kind"] is None


def test_a_broken_torch_is_a_fact_like_any_other(packages, nnkit_command):
    packages(torch="raise ImportError('libcudart.so.13: cannot open shared object file')")
    done = nnkit_command("doctor", "--json")
    data = json.loads(done.out)
    assert data["broken"]["torch"] == "ImportError: libcudart.so.13: cannot open shared object file"
    assert (data["threads"], [each["device"] for each in data["devices"]]) == (None, ["cpu"])
    assert "BROKEN: ImportError: libcudart" in nnkit_command("doctor").out


def test_json_is_what_its_schema_says(packages, nnkit_command):
    packages(timm="")
    data = json.loads(nnkit_command("doctor", "--json").out)
    schema = json.loads((ROOT / "nnkit" / "schemas" / "doctor.json").read_text())
    jsonschema.validate(data, schema, cls=jsonschema.Draft202012Validator)
    (cpu,) = (each for each in data["devices"] if each["device"] == "cpu")
    assert cpu["memory"] == os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    assert data["threads"] == [torch.get_num_threads(), torch.get_num_interop_threads()]


@pytest.mark.slow
def test_no_optional_package_is_imported_into_the_doctor_s_own_process():
    source = (
        "import sys\n"
        "from nnkit.cli.main import main\n"
        "try:\n    main(['doctor'])\n"
        "finally:\n    packages = {'timm', 'torchvision', 'transformers', 'torch_geometric'}\n"
        "    print('imported:', *packages & set(sys.modules), file=sys.stderr)\n"
    )
    done = python("-c", source)
    assert done.stderr.splitlines()[-1] == "imported:"
