"""What the loopback W&B server answers about artifacts and alerts, and what it was told of them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

NOW = "2026-01-01T00:00:00Z"


@dataclass
class RecordedArtifact:
    """One artifact: the client's own input, the files that it announced, whether it was committed."""

    input: dict[str, Any]
    files: list[str] = field(default_factory=list)
    committed: bool = False

    @property
    def aliases(self) -> set[str]:
        return {alias["alias"] for alias in self.input["aliases"]}


class ArtifactAnswers:
    """Answers by the name of the call.

    Attributes:
        artifacts: What was recorded, by the artifact's name.
        alerts: The variables of each alert.
    """

    def __init__(self) -> None:
        self.artifacts: dict[str, RecordedArtifact] = {}
        self.alerts: list[dict[str, Any]] = []

    def answers(self, url: str) -> dict[str, Any]:
        return {
            "ArtifactType": lambda _: {"project": None},
            "CreateArtifact": self._create,
            "CreateArtifactManifest": lambda variables: self._manifest(variables, url),
            "CreateArtifactFiles": lambda variables: self._files(variables, url),
            "CommitArtifact": self._commit,
            "ArtifactByID": self._by_id,
            "NotifyScriptableRunAlert": self._alert,
        }

    def _create(self, variables: dict[str, Any]) -> dict[str, Any]:
        name = variables["input"]["artifactCollectionName"]
        self.artifacts[name] = RecordedArtifact(variables["input"])
        sequence = {"id": f"s-{name}", "latestArtifact": None}
        return {"createArtifact": {"artifact": {"id": name, "state": "PENDING", "artifactSequence": sequence}}}

    def _manifest(self, variables: dict[str, Any], url: str) -> dict[str, Any]:
        upload = f"{url}/manifest/{variables['artifactID']}"
        file = {"id": "f", "uploadUrl": upload, "uploadHeaders": []}
        return {"createArtifactManifest": {"artifactManifest": {"id": f"m-{variables['artifactID']}", "file": file}}}

    def _files(self, variables: dict[str, Any], url: str) -> dict[str, Any]:
        nodes = []
        for spec in variables["input"]["artifactFiles"]:
            self.artifacts[spec["artifactID"]].files.append(spec["name"])
            place = f"{spec['artifactID']}/{spec['name']}"
            node = {"storagePath": place, "uploadUrl": f"{url}/artifact/{place}", "uploadHeaders": []}
            nodes.append({"node": {**node, "uploadMultipartUrls": None, "artifact": {"id": spec["artifactID"]}}})
        return {"createArtifactFiles": {"files": {"edges": nodes}}}

    def _commit(self, variables: dict[str, Any]) -> dict[str, Any]:
        self.artifacts[variables["artifactID"]].committed = True
        return {"commitArtifact": {"artifact": {"id": variables["artifactID"], "digest": "d"}}}

    def _by_id(self, variables: dict[str, Any]) -> dict[str, Any]:
        found = self.artifacts[variables["id"]].input
        project = {"id": "p", "internalId": "1", "name": "llm-sweeps", "entity": {"name": "team"}}
        return {
            "artifact": {
                "id": variables["id"],
                "versionIndex": 0,
                "artifactType": {"name": found["artifactTypeName"]},
                "artifactSequence": {"__typename": "ArtifactSequence", "name": variables["id"], "project": project},
                "description": None,
                "metadata": found.get("metadata"),
                "tags": [],
                "historyStep": None,
                "ttlDurationSeconds": -1,
                "ttlIsInherited": False,
                "state": "COMMITTED",
                "size": 1,
                "fileCount": 1,
                "digest": found["digest"],
                "commitHash": "c",
                "createdAt": NOW,
                "updatedAt": NOW,
                "aliases": [],
            }
        }

    def _alert(self, variables: dict[str, Any]) -> dict[str, Any]:
        self.alerts.append(variables)
        return {"notifyScriptableRunAlert": {"success": True}}
