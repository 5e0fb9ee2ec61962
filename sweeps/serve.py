"""`python -m sweeps.serve STORAGE`: the experiment service on this machine: page, API and queue."""

from __future__ import annotations

import ipaddress
import socket
import sys
import threading
from argparse import Namespace
from functools import partial
from pathlib import Path

from analysis.cli import Parser
from sweeps.folder.driver_lock import one_driver
from sweeps.service.access.users import Users
from sweeps.service.queue.queue import SERVICE_FOLDER
from sweeps.service.runs.attempts import Attempts
from sweeps.submit.options import KUBERAY, SLURM, add_job_options, allocation, unread
from sweeps.submit.slurm import refuse_short_time
from trainables.errors import UserError
from trainables.storage.object_store import is_url

EXAMPLE = """example:
  python -m sweeps.serve outputs                                  # page and API on http://127.0.0.1:8700
  python -m sweeps.serve outputs --add-user ada --role user       # prints ada's token, once
  python -m sweeps.serve outputs --host 0.0.0.0 --name head.lan   # beyond this machine: put a TLS proxy in front

exit codes: 0 done, 2 wrong arguments or files, 130 interrupted; running sweeps go on and are found again"""

LOOPBACK = {"127.0.0.1", "localhost", "::1"}
SCHEDULERS = ("slurm", "kueue")
EVERYWHERE = ("0.0.0.0", "::")
KEEP_ALIVE_SECONDS = 65  # longer than clients keep an idle connection: one that both end at once loses a request
STREAMS_END_SECONDS = 2  # for open event streams, when the service ends


def main(arguments: list[str] | None = None) -> int:
    """Runs the command and returns its exit code."""
    parser = Parser("python -m sweeps.serve", "Serves the sweeps of a storage path; runs those sent to it.", EXAMPLE)
    parser.add_argument("storage", metavar="STORAGE", help="the folder that sweeps lie in, and go to")
    parser.add_argument("--address", help="a Ray cluster that sweeps share: its dashboard (http://…), or auto")
    parser.add_argument("--port", type=int, default=8700, help="0 for any that is free")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on")
    parser.add_argument("--name", action="append", default=[], help="another name by which the service may be called")
    parser.add_argument("--add-user", metavar="NAME", help="add a user, print the token once, and end")
    parser.add_argument("--role", choices=("reader", "user", "admin"), default="user", help="of the added user")
    parser.add_argument("--may-run-code", action="store_true", help="let the added user send scorers and remote code")
    parser.add_argument("--scheduler", choices=SCHEDULERS, help="leave order, quotas and shares to it")
    add_job_options(parser)
    return parser.run(_serve, arguments)


def _serve(given: Namespace) -> None:
    if given.address and given.scheduler:
        rule, remedy = "a scheduler's jobs bring their own cluster", "leave one of them out"
        raise UserError("--address, --scheduler", rule, f"{given.address}, {given.scheduler}", remedy)
    for option in unread(given, {"slurm": SLURM, "kueue": KUBERAY}.get(given.scheduler)):
        raise UserError(option, "must be read by what starts the sweeps", given.scheduler or "no scheduler", "omit it")
    if is_url(given.storage):
        raise UserError("STORAGE", "must be a folder of this machine", given.storage, "name one")
    storage = Path(given.storage).expanduser().resolve()
    _refuse_no_job(given, storage)
    folder = storage / SERVICE_FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    folder.chmod(0o700)  # configs and hashes of tokens are nobody else's
    users = Users(folder)
    if given.add_user:
        print(users.add(given.add_user, given.role, may_run_code=given.may_run_code))
        return
    with one_driver(folder):
        if not any(user.role == "admin" for user in users.read().users.values()):
            roots = sorted({Path.cwd(), storage})
            token = users.add("admin", "admin", roots=roots)
            print(f"the admin's token, shown this once: {token}")
            print(f"configs may name files below {', '.join(map(str, roots))}: see {users.path}", flush=True)
        _listen(given, storage, folder, users)


def _refuse_no_job(given: Namespace, storage: Path) -> None:
    # At the start: later each sweep that is sent would be refused for it.
    if given.scheduler == "slurm":
        refuse_short_time(allocation(given))
    elif given.scheduler == "kueue":
        from sweeps.submit.kuberay import refuse_missing  # with YAML and the config, which `--help` does without

        refuse_missing(str(storage), given)


def _listen(given: Namespace, storage: Path, folder: Path, users: Users) -> None:
    import uvicorn  # with FastAPI half a second, which `--help` and errors do without

    from sweeps.config.sweep_config import load_config
    from sweeps.service.access.checks import refuse_foreign
    from sweeps.service.api.app import make_app
    from sweeps.service.queue.entries import Entry
    from sweeps.service.queue.queue import Queue
    from sweeps.service.runs.runner import Runner
    from sweeps.service.runs.sharing import Broker

    bound = _bound(given.host, given.port)
    queue = Queue(folder)
    hosts = {name.lower() for name in (*LOOPBACK, *given.name, given.host) if name not in EVERYWHERE}
    app = make_app(storage, queue, users, hosts)
    queue.scheduler = {"slurm": "Slurm", "kueue": "Kueue"}.get(given.scheduler, "")
    broker = Broker(folder) if given.address else None

    def check(entry: Entry) -> None:
        # Again at each start: users.yaml, or where a link leads, may have changed since the sweep was sent.
        refuse_foreign(load_config(queue.config(entry)), users.read().allowed, users.user(entry.user))

    runner = Runner(queue, storage, _attempts(given, folder, users), users.parts, broker, check)
    working = threading.Thread(target=runner.run, name="queue")
    working.start()
    print(f"{storage} on http://{given.host}:{bound.getsockname()[1]}", flush=True)
    if given.host not in LOOPBACK and not _is_loopback(given.host):
        print("warning: http can be read on its way: put a proxy with TLS in front", file=sys.stderr)
    try:
        # No access log: its lines would hold what users write into addresses.
        config = uvicorn.Config(
            app, log_level="warning", access_log=False, server_header=False, proxy_headers=False,
            timeout_graceful_shutdown=STREAMS_END_SECONDS, timeout_keep_alive=KEEP_ALIVE_SECONDS,
        )  # fmt: skip
        uvicorn.Server(config).run(sockets=[bound])
    finally:
        runner.end()
        working.join()


def _attempts(given: Namespace, folder: Path, users: Users) -> Attempts:
    """Where sweeps run."""
    if given.scheduler:
        from sweeps.service.runs.scheduled_jobs import KueueJobs, SlurmJobs

        def queue_of(name: str) -> str | None:
            return users.user(name).scheduler_queue

        slurm = given.scheduler == "slurm"
        return SlurmJobs(folder, given, queue_of) if slurm else KueueJobs(folder, given, queue_of)
    if given.address and "://" in given.address:
        from sweeps.service.runs.cluster_jobs import ClusterJobs

        return ClusterJobs(folder, given.address)
    from sweeps.service.runs.processes import Processes, sweeps_run

    return Processes(folder, partial(sweeps_run, address=given.address))


def _bound(host: str, port: int) -> socket.socket:
    bound = None
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        bound = socket.socket(family, socket.SOCK_STREAM)
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind((host, port))
        bound.listen()  # before the address is printed: who reads it may ask at once, and waits
    except (OSError, OverflowError) as error:
        if bound is not None:
            bound.close()
        remedy = "take another --port, or an address of this machine"
        raise UserError("--host, --port", "must be free", f"{host}:{port}: {error}", remedy) from None
    return bound


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


if __name__ == "__main__":
    sys.exit(main())
