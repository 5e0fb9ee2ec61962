"""The batch file: what it asks of Slurm, that it is whole, and when a job goes back to the queue."""

import os
import socket
import subprocess
from pathlib import Path
from types import SimpleNamespace

import pytest

from sweeps.config.sweep_config import load_config
from sweeps.submit import await_head
from sweeps.submit.__main__ import main
from sweeps.submit.allocations import goes_on
from sweeps.submit.allocations import main as ended
from sweeps.submit.slurm import BODY, Allocation, batch_file, forecast_lines, time_limit_seconds

ROOT = __file__.partition("/tests/")[0]


def test_a_batch_file_asks_for_what_was_asked_and_is_a_whole_script(monkeypatch, tmp_path):
    monkeypatch.chdir(ROOT)
    asked = Allocation(nodes=4, gpus_per_node=8, time="12:00:00", partition="gpu", account="a1", more=("qos=long",))
    overrides = [f"storage_path={tmp_path}/a b", "name=its"]
    text = batch_file(load_config("conf/smoke.yaml", overrides), "it's: '$HOME `ls`'\n#SBATCH --no\n", overrides, asked)
    options = [line.removeprefix("#SBATCH --") for line in text.splitlines() if line.startswith("#SBATCH")]
    assert options.pop() == "no"  # Slurm reads them up to the first command
    assert options[1:] == [
        "nodes=4", "ntasks-per-node=1", "gpus-per-node=8", "time=12:00:00", "partition=gpu", "account=a1",
        "signal=B:USR1@300", "requeue", "open-mode=append", "output=its-%j.log", "qos=long",
    ]  # fmt: skip
    assert subprocess.run(["bash", "-n"], input=text, text=True, capture_output=True, check=False).stderr == ""
    head = text.partition("driver=")[0]
    shown = subprocess.run(
        ["bash", "-c", f'SLURM_JOB_ID=7\n{head}\nprintf "%s\\n" "$CONFIG" "${{OVERRIDES[@]}}" "$PLACE" "$HISTORY"'],
        capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    assert shown.splitlines() == [
        "it's: '$HOME `ls`'", "#SBATCH --no", "",
        f"storage_path={tmp_path}/a b", "name=its", f"{tmp_path}/a b/its", "its-7.jsonl",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("30", 1800), ("30:15", 1815), ("12:00:00", 43200), ("2-00", 172800), ("1-2:03", 93780), ("1-2:03:04", 93784)],
)
def test_time_limits_are_read_as_slurm_reads_them(text, seconds):
    assert time_limit_seconds(text) == seconds


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["--time", "5"], "--time: must be longer than --grace, 300 s, got 5; "),
        (["--time", "soon"], "--time: must be a time in one of Slurm's forms, got soon; "),
        (["--time", "5-"], "--time: must be a time in one of Slurm's forms, got 5-; "),
        (["storage_path=here"], "storage_path: must be absolute for a Slurm job, got here; "),
    ],
)
def test_what_cannot_work_is_one_line(monkeypatch, capsys, tmp_path, arguments, line):
    monkeypatch.chdir(ROOT)
    overrides = [] if "storage_path=here" in arguments else [f"storage_path={tmp_path}"]
    assert main(["conf/smoke.yaml", *overrides, "--slurm", "--dry-run", *arguments]) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith(f"error: {line}")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--nodes", "0"], "--nodes: must be a whole number of 1 or more, got '0'"),
        (["--grace=-5"], "--grace: must be a whole number of 1 or more, got '-5'"),
        (["--partition", "a\nb"], "--partition: must be one word, got 'a\\nb'"),
        (["--account", ""], "--account: must be one word, got ''"),
        (
            ["--sbatch", "qos=long\n#SBATCH --x"],
            "--sbatch: must be a long option of sbatch, such as qos=long, got 'qos",
        ),
        (["--sbatch", "-q long"], "--sbatch: must be a long option of sbatch, such as qos=long, got '-q long'"),
        (["--sbatch", "array=1-4"], "--sbatch: must leave array to the batch file and to options of its own"),
        (["--sbatch=--no-requeue"], "--sbatch: must leave no-requeue to the batch file"),
        (["--sbatch", "nodes 4"], "--sbatch: must leave nodes to the batch file"),
        (["--time", ""], "argument --time: must not be empty; is a variable not set?"),
        (["--claim", "pool"], "--claim is for --kuberay alone"),
        (["--no-wait"], "--no-wait is for --address alone"),
    ],
)
def test_an_option_that_would_be_read_as_something_else_is_refused(capsys, tmp_path, arguments, words):
    with pytest.raises(SystemExit, match="2"):
        main(["conf/smoke.yaml", f"storage_path={tmp_path}", "--slurm", "--dry-run", *arguments])
    printed = capsys.readouterr()
    assert words in printed.err
    assert len(printed.err.splitlines()) == 1


def test_an_option_of_sbatch_may_have_its_dashes(monkeypatch, capsys, tmp_path):
    monkeypatch.chdir(ROOT)
    assert main(["conf/smoke.yaml", f"storage_path={tmp_path}", "--slurm", "--dry-run", "--sbatch=--qos=long"]) == 0
    assert "#SBATCH --qos=long\n" in capsys.readouterr().out


def test_a_config_that_is_gone_once_it_is_read_is_refused(monkeypatch, capsys, tmp_path):
    monkeypatch.chdir(ROOT)
    os.mkfifo(tmp_path / "pipe")
    with subprocess.Popen(["cp", "conf/smoke.yaml", tmp_path / "pipe"]):
        assert main([str(tmp_path / "pipe"), f"storage_path={tmp_path}", "--slurm", "--dry-run"]) == 2
    line = (
        f"error: --slurm: must be given a file, which is read twice, got {tmp_path}/pipe; save the config as a file\n"
    )
    assert capsys.readouterr().err == line


@pytest.mark.parametrize(
    ("marks", "again"),
    [
        ([""], True),
        (["", ""], False),  # nothing was ever trained
        (["a"], True),
        (["a", "a"], True),
        (["a", "a", "a"], False),
        (["a", "a", "b", "b"], True),
        (["a", "b", "b", "b"], False),
    ],
)
def test_two_allocations_without_a_new_step_end_the_requeuing(marks, again):
    assert goes_on(marks) is again


def test_the_steps_of_a_folder_are_what_its_curves_hold(tmp_path, capsys):
    history, curve = tmp_path / "h.jsonl", tmp_path / "trials" / "t1" / "curve.jsonl"
    assert ended(str(tmp_path), str(history)) == 0
    curve.parent.mkdir(parents=True)
    for step in range(3):
        curve.write_text((curve.read_text() if step else "") + f'{{"step": {step + 1}}}\n')
        assert ended(str(tmp_path), str(history)) == 0
    assert ended(str(tmp_path), str(history)) == 0
    assert ended(str(tmp_path), str(history)) == 1
    assert "2 allocations must train a step, got none" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("hours", "gpus", "shown"),
    [(60.0, 8, "1 allocation of"), (64.0, 8, "2 allocations of"), (10.0, 1, "2 allocations of")],
)
def test_how_many_allocations_a_sweep_takes_is_said(hours, gpus, shown):
    forecast = SimpleNamespace(device_hours={"this machine's CPUs": 9e9, "one A100": hours})
    asked = Allocation(time="8:00:00", gpus_per_node=gpus)
    (line,) = forecast_lines(SimpleNamespace(forecast=forecast), asked)
    assert f"on one A100: {shown} 8:00:00" in line
    assert list(forecast_lines(SimpleNamespace(forecast=forecast), Allocation(gpus_per_node=gpus))) == []


PYTHON = """#!/bin/bash
trap : TERM  # as a driver that ends in order
case "$*" in
*await_head*) exit "$HEAD_CODE" ;;
*sweeps.run*) cp "$3" "${0%/*}/config"; echo "$3" >"${0%/*}/lay"
[ -z "$SIGNAL" ] || { kill -s "$SIGNAL" $PPID; sleep 0.2; }; exit "$CODE" ;;
*allocations*) exit "$IDLE" ;;
*) echo 1 2 3 ;;
esac
"""


@pytest.mark.parametrize(
    ("driver", "requeued"),
    [
        ({"CODE": "0"}, False),
        ({"CODE": "2"}, False),
        ({"CODE": "3"}, False),
        ({"CODE": "130", "SIGNAL": "USR1"}, True),
        ({"CODE": "143", "SIGNAL": "USR1"}, True),  # told to end before it had begun
        ({"CODE": "0", "SIGNAL": "USR1"}, False),
        ({"CODE": "130", "SIGNAL": "TERM"}, False),  # scancel; after a preemption Slurm requeues by itself
        ({"CODE": "137"}, True),
        ({"CODE": "1"}, True),
        ({"CODE": "1", "IDLE": "1"}, False),
        ({"HEAD_CODE": "1"}, True),  # a node on which Ray does not come up
    ],
)
def test_what_becomes_of_the_job(monkeypatch, tmp_path, driver, requeued):
    monkeypatch.chdir(ROOT)
    overrides = [f"storage_path={tmp_path}"]
    text = batch_file(load_config("conf/smoke.yaml", overrides), "name: it's", overrides, Allocation())
    programs = {"srun": "", "scancel": "", "scontrol": f"echo $* > {tmp_path}/asked", "python": PYTHON}
    for name, body in programs.items():
        (tmp_path / name).write_text(body if body == PYTHON else f"#!/bin/bash\n{body}\n")
        (tmp_path / name).chmod(0o755)
    text = text.replace("\nPYTHON=", f"\nPYTHON={tmp_path}/python #")
    if not driver.get("SIGNAL"):  # on a busy node a driver may have ended before the script waits for it
        text = text.replace("driver=$!\n", "driver=$!; sleep 0.1\n")
    (tmp_path / "job").write_text(text)
    own = {"SLURM_JOB_ID": "7", "SLURM_JOB_NUM_NODES": "1", "SLURM_JOB_NAME": "j", "PATH": f"{tmp_path}:/usr/bin:/bin"}
    given = {"CODE": "0", "SIGNAL": "", "IDLE": "0", "HEAD_CODE": "0", **driver}
    done = subprocess.run(["bash", str(tmp_path / "job")], env={**own, **given}, capture_output=True, check=False)
    assert (tmp_path / "asked").exists() is requeued, done.stderr
    if "HEAD_CODE" not in driver:
        assert (tmp_path / "config").read_text() == "name: it's"
        assert not Path((tmp_path / "lay").read_text().strip()).exists()
    if requeued:
        assert (tmp_path / "asked").read_text() == "requeue 7\n"
    elif "HEAD_CODE" not in driver:
        assert done.returncode == int(given["CODE"])


RAY = """#!/bin/bash
case "$*" in
*ray.scripts*) echo "$*" >>"${0%/*}/starts"; exit "$(sed -n "$(wc -l <"${0%/*}/starts")p" "${0%/*}/codes")" ;;
*create_connection*) exit 0 ;;
*) echo $RANDOM ;;
esac
"""


@pytest.mark.parametrize(
    ("node", "seconds", "codes", "starts", "code"),
    [
        (0, 0, [0], 1, 0),
        (0, 0, [1, 1, 0], 3, 0),  # a port that is taken, a busy node
        (0, 100, [1], 1, 1),  # a head that was up
        (1, 100, [1, 1, 0], 3, 0),
    ],
)
def test_how_often_ray_is_started_on_a_node(tmp_path, node, seconds, codes, starts, code):
    script = BODY.read_text("utf-8").split("node_script='")[1].split("\n'\n")[0]
    (tmp_path / "codes").write_text("".join(f"{one}\n" for one in codes))
    for name, body in {"python": RAY, "sleep": "#!/bin/bash\n"}.items():
        (tmp_path / name).write_text(body)
        (tmp_path / name).chmod(0o755)
    own = {"PYTHON": f"{tmp_path}/python", "PATH": f"{tmp_path}:/usr/bin:/bin", "SLURM_NODEID": str(node)}
    done = subprocess.run(["bash", "-c", f"SECONDS={seconds}\n{script}"], env=own, capture_output=True, check=False)
    commands = (tmp_path / "starts").read_text().splitlines()
    assert (done.returncode, len(commands)) == (code, starts), done.stderr
    assert all(("--head" in command) is (node == 0) for command in commands)
    ports = {command.split("--dashboard-agent-listen-port=")[1] for command in commands}
    assert len(ports) == starts, "another port each time"


def test_a_head_that_never_answers_is_waited_for_until_the_time_is_over(monkeypatch, capsys):
    monkeypatch.setattr(await_head, "WAIT_SECONDS", 1.5)
    with socket.create_server(("127.0.0.1", 0)) as held:
        port = held.getsockname()[1]
    assert await_head.main(f"127.0.0.1:{port}", 2) == 1
    assert "must be up within 1.5 s" in capsys.readouterr().err
