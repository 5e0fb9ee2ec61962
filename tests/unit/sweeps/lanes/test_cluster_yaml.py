"""cluster.yaml is what Ray's launcher takes, and what a sweep needs: a head without lanes, spot before on-demand."""

from collections import Counter
from pathlib import Path

import jsonschema
import pytest
import yaml
from ray.autoscaler._private.util import prepare_config, validate_config
from ray.autoscaler.v2.instance_manager.config import AutoscalingConfig
from ray.autoscaler.v2.scheduler import ResourceDemandScheduler, SchedulingRequest
from ray.autoscaler.v2.utils import ResourceRequestUtil

from sweeps.config.sections import ResourcesConfig
from sweeps.lanes.cluster import LanePlan, divide
from trainables.errors import UserError

ROOT = Path(__file__).resolve().parents[4]


@pytest.fixture
def config():
    return yaml.safe_load((ROOT / "cluster.yaml").read_text())


def test_the_schema_of_the_launcher_takes_it_and_would_notice_a_mistake(config):
    validate_config(prepare_config(config))
    config["available_node_types"]["gpu_spot"]["min_worker"] = 1
    with pytest.raises(jsonschema.ValidationError, match="min_worker"):
        validate_config(prepare_config(config))


def launched(config, workers, **scores):
    """Node types that Ray's autoscaler would launch for so many workers of a lane, one GPU each."""
    types = AutoscalingConfig(prepare_config(config)).get_node_type_configs()
    for node_type in types.values():
        node_type.min_worker_nodes = 0
    requests = ResourceRequestUtil.group_by_count([ResourceRequestUtil.make({"GPU": 1, "CPU": 8})] * workers)
    request = SchedulingRequest(
        disable_launch_config_check=True, node_type_configs=types, max_num_nodes=9, resource_requests=requests, **scores
    )
    reply = ResourceDemandScheduler(event_logger=None).schedule(request)
    return Counter({launch.instance_type: launch.count for launch in reply.to_launch})


def test_lanes_bring_up_spot_nodes_first_and_on_demand_nodes_where_spot_ones_could_not_come(config):
    assert launched(config, 8) == {"gpu_spot": 2}
    assert launched(config, 8, recoverable_resource_availabilities={"gpu_spot": 0.0}) == {"gpu_on_demand": 2}


def test_the_head_gets_no_lane(config):
    head, spot = (config["available_node_types"][name]["resources"] for name in ("head", "gpu_spot"))
    assert divide([head, spot, spot], ResourcesConfig()) == LanePlan(lanes=8, workers=1, use_gpu=True, cpus=8)
    with pytest.raises(UserError, match="must have a node for workers"):
        divide([head], ResourcesConfig())


def test_requests_need_the_token_on_every_node(config):
    for commands in ("head_start_ray_commands", "worker_start_ray_commands"):
        (start,) = [command for command in config[commands] if "ray start" in command]
        assert start.startswith("export RAY_AUTH_MODE=token;")
    assert "--dashboard-host=127.0.0.1" in config["head_start_ray_commands"][1]
    assert config["file_mounts"] == {"~/.ray/auth_token": "~/.ray/auth_token"}
    assert "chmod 600 ~/.ray/auth_token" in config["setup_commands"]
