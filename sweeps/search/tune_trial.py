"""A trial as Ray Tune sees it: no GPU, no CPU; it hands its parameters to a lane and relays the lane's reports.

Tune gets the held-out points and the end, so that Optuna and the trial scheduler see an ordinary trial. Progress goes
to the live view by the dispatcher, curves are written by the lane.
"""

from __future__ import annotations

from typing import Any

import ray
from ray import tune

POLL_SECONDS = 20.0


class SweepTrial(tune.Trainable):
    """Submits one trial and relays it; the actor is reused for the next (`reuse_actors=True`).

    The end of an actor says nothing about its trial: Tune ends one that is still starting when another, which has just
    become free, can take its trial over. Who is done with a trial tells the lanes:
    `sweeps.phases.search.CancelEndedTrials`.
    """

    def setup(self, config: dict[str, Any]) -> None:
        """Submits the trial of `config["spec"]` to the dispatcher of `config["lanes"]`."""
        self.dispatcher = ray.get_actor(config["lanes"], config["namespace"])
        self._submit(config)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Submits the next trial."""
        self._submit(new_config)
        return True

    def step(self) -> dict[str, Any]:
        """Waits for the next held-out point, or for the end.

        Returns:
            `objective` (nats a token; lower is better), `step`, `epoch_percent`, `state` and `done`.
        """
        while True:
            # Tune's side: Tune has to learn of the end by itself. The driver learns of it from the recorder only.
            answer: Any = ray.get(self.dispatcher.poll.remote(self.job_id, self.seen, POLL_SECONDS))
            if not answer["known"]:  # the dispatcher was restarted
                ray.get(self.dispatcher.submit.remote(self.job_id, self.work))
            if answer["reports"]:
                return self._relay(answer["reports"][0])
            if answer["end"]:
                return {**self._last_point(answer["end"]), "state": answer["end"]["state"], "done": True}

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        """Nothing: the lane writes checkpoints, the ledger is what a sweep resumes from."""

    def load_checkpoint(self, checkpoint: Any) -> None:
        """Nothing: see `save_checkpoint`."""

    def _submit(self, config: dict[str, Any]) -> None:
        self.work = {**config["work"], "spec": config["spec"]}
        self.job_id, self.seen = config["spec"]["trial_id"], 0
        self.last = {"objective": float("nan"), "step": 0, "epoch_percent": 0}
        ray.get(self.dispatcher.submit.remote(self.job_id, self.work))

    def _last_point(self, end: dict[str, Any]) -> dict[str, Any]:
        """Of the trial's own end: a dispatcher that was restarted may not have relayed the last one."""
        points = end.get("checkpoints")
        return {**self.last, "objective": points[-1]["objective"], "step": points[-1]["step"]} if points else self.last

    def _relay(self, report: dict[str, Any]) -> dict[str, Any]:
        self.seen = report["seq"]
        percent = int(100 * report["fraction"])
        self.last = {"objective": report["objective"], "step": report["step"], "epoch_percent": percent}
        return {**self.last, "state": "running", "done": False}
