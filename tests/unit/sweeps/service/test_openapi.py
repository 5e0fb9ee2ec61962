"""Requests made from the service's OpenAPI, right and wrong ones: none is answered with an error of the server."""

import shutil

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from schemathesis.checks import not_a_server_error

from sweeps.service.access import guard
from sweeps.service.access.users import Users
from sweeps.service.api.app import make_app
from sweeps.service.queue.queue import SERVICE_FOLDER, Queue
from tests.unit.sweeps.service.conftest import OLD, fake_plan

EXAMPLES = 10  # of each route


@pytest.fixture(scope="module")
def api(tmp_path_factory, tokens):
    storage = tmp_path_factory.mktemp("openapi")
    folder = storage / SERVICE_FOLDER
    folder.mkdir()
    shutil.copy(tokens[0], folder / "users.yaml")
    shutil.copytree(OLD, storage / "old")
    with pytest.MonkeyPatch.context() as patch:
        for rate in ("READ_RATE", "CHANGE_RATE"):
            patch.setattr(guard, rate, guard.Rate(1e6, 1e6))
        app = make_app(storage, Queue(folder), Users(folder), {"localhost"}, fake_plan)
        head = {"authorization": f"Bearer {tokens[1]['root']}", "host": "localhost"}
        yield schemathesis.openapi.from_asgi("/openapi.json", app, headers=head), head


def test_no_request_is_an_error_of_the_server(api):
    schema, head = api
    asked = set()

    def ask(case):
        # Half of the requests name what there is.
        if case.path_parameters and len(str(case.path_parameters.get("name", ""))) % 2:
            case.path_parameters = {key: {"name": "old", "trial": "t0001"}[key] for key in case.path_parameters}
        answer = case.call(headers=head)
        case.validate_response(answer, checks=[not_a_server_error])
        asked.add((case.method, case.operation.path, answer.status_code))

    for found in schema.get_all_operations():
        settings(max_examples=EXAMPLES, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))(
            given(found.ok().as_strategy())(ask)
        )()
    statuses = {status for _, _, status in asked}
    assert {200, 404, 422} <= statuses
    assert 401 not in statuses
    assert len({one[:2] for one in asked}) >= 14
