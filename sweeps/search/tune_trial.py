"""A trial as Ray Tune sees it, without GPU or CPU: submits itself to the dispatcher and relays the lane's reports.

Tune gets the held-out points and the end, so that Optuna and the trial scheduler see an ordinary trial. Progress goes
from the dispatcher to the live view; the lane writes the curves.
"""

from __future__ import annotations

from typing import Any

import ray
from ray import tune

from trainables.lane.messages import AreasReport, JobEnd, PollAnswer

POLL_SECONDS = 20.0


class SweepTrial(tune.Trainable):
    """Submits one trial and relays it; the actor is reused for the next (`reuse_actors=True`)."""

    # No `cleanup` that cancels the trial: the end of an actor says nothing about its trial. Tune ends an actor that is
    # still starting when a free one takes its trial over. `sweeps.phases.search.CancelEndedTrials` cancels it.

    def setup(self, config: dict[str, Any]) -> None:
        """Submits the trial of `config["spec"]` as job `config["job_id"]` to the dispatcher of `config["lanes"]`."""
        self.dispatcher = ray.get_actor(config["lanes"], config["namespace"])
        self._submit(config)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        self._submit(new_config)
        return True

    def step(self) -> dict[str, Any]:
        """Waits for the next held-out point or for the end; `objective` is the NLL, in nats a token."""
        while True:
            # Tune's side: Tune has to learn of the end by itself. The driver learns of it from the recorder only.
            reply: Any = ray.get(self.dispatcher.poll.remote(self.job_id, self.last_seq, POLL_SECONDS))
            answer: PollAnswer = reply
            if not answer["known"]:  # the dispatcher was restarted
                ray.get(self.dispatcher.submit.remote(self.job_id, self.work))
            if answer["reports"]:
                return self._relay(answer["reports"][0])
            if answer["end"]:
                return {**self._last_point(answer["end"]), "state": answer["end"]["state"], "done": True}

    # Tune's own checkpoints are empty: the lane writes the trial's, and a sweep resumes from the ledger.
    def save_checkpoint(self, checkpoint_dir: str) -> None: ...

    def load_checkpoint(self, checkpoint: Any) -> None: ...

    def _submit(self, config: dict[str, Any]) -> None:
        self.work = {**config["work"], "spec": config["spec"], "pause_at": config["pause_at"]}
        self.job_id, self.last_seq = config["job_id"], 0
        self.last = {"objective": float("nan"), "step": 0, "fraction": 0.0, "epoch_percent": 0}
        ray.get(self.dispatcher.submit.remote(self.job_id, self.work))

    def _last_point(self, end: JobEnd) -> dict[str, Any]:
        # From the trial's own end: a restarted dispatcher may not have relayed the last point.
        points = end.get("checkpoints")
        if not points:
            return self.last
        last = points[-1]
        # Pairs: Tune flattens a mapping on its way to the search.
        areas = list((last.get("areas") or {}).items())
        return {**self.last, "objective": last["objective"], "step": last["step"], "areas": areas}

    def _relay(self, report: AreasReport) -> dict[str, Any]:
        self.last_seq = report["seq"]
        percent = int(100 * report["fraction"])
        self.last = {
            "objective": report["objective"],
            "step": report["step"],
            "fraction": report["fraction"],
            "epoch_percent": percent,
        }
        return {**self.last, "state": "running", "done": False}
