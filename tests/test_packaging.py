"""What packaging/ ships fits the program: configurations, mounts, the metrics of the dashboard."""

import json
import re
import shlex
import tomllib
from pathlib import Path
from typing import Any

import pytest
import typer
from support.paths import ROOT

from streamtag.cli.main import app
from streamtag.config.config import load_config
from streamtag.daemon.check import checked_config

PACKAGING = ROOT / "packaging"
COMPOSE = PACKAGING / "compose"
STATE = "/var/lib/streamtag"


@pytest.mark.parametrize("path", [PACKAGING / "container.toml", COMPOSE / "streamtag.toml"])
def test_the_configurations_of_the_images_are_taken(tmp_path: Path, path: Path) -> None:
    text = path.read_text()
    assert f'bind = "ipc://{STATE}/feed"' in text  # the folder that the image lets it write
    placed = tmp_path / path.name
    placed.write_text(text.replace(STATE, str(tmp_path)))
    config = load_config(placed)
    assert not config.exit_when_done
    assert config.metrics.bind == "0.0.0.0:9464"  # where the health check asks


def test_what_the_configuration_of_compose_says_of_nats(tmp_path: Path) -> None:
    text = (COMPOSE / "streamtag.toml").read_text().replace(STATE, str(tmp_path))
    placed = tmp_path / "streamtag.toml"
    placed.write_text(re.sub(r"^# (\[nats\]|servers =)", r"\1", text, flags=re.MULTILINE))
    config = load_config(placed)
    assert config.nats is not None
    assert config.nats.servers == ("nats://nats:4222",)  # the name of the service


def test_what_compose_mounts_is_there() -> None:
    yaml = pytest.importorskip("yaml", reason="the extra docs is not installed")
    services = yaml.safe_load((COMPOSE / "compose.yaml").read_text())["services"]
    assert set(services) == {"streamtag", "mosquitto", "prometheus", "grafana", "nats"}
    assert [n for n, one in services.items() if "profiles" in one] == ["nats"]
    mounts = [m.split(":")[0] for service in services.values() for m in service.get("volumes", ())]
    assert [m for m in mounts if m.startswith(".") and not (COMPOSE / m).is_file()] == []
    published = [p for service in services.values() for p in service.get("ports", ())]
    assert all(place.startswith("127.0.0.1:") for place in published)


def test_the_dashboard_asks_for_metrics_that_there_are() -> None:
    """The page of metrics, which is held to the program elsewhere, has all of them."""
    page = (ROOT / "docs" / "operation.md").read_text()
    known = set(re.findall(r"\w+", page))
    panels = json.loads((COMPOSE / "grafana" / "streamtag.json").read_text())["panels"]
    asked = {
        name.removesuffix("_bucket")
        for panel in panels
        for target in panel["targets"]
        for name in re.findall(r"streamtag_(\w+)", target["expr"])
    }
    assert len(asked) > 10
    assert asked - known == set()


def test_the_job_for_kuberay_runs_a_command_of_the_image() -> None:
    yaml = pytest.importorskip("yaml", reason="the extra docs is not installed")
    job = yaml.safe_load((PACKAGING / "ray" / "archive.yaml").read_text())
    assert (job["apiVersion"], job["kind"]) == ("ray.io/v1", "RayJob")
    spec = job["spec"]["rayClusterSpec"]
    assert f"ray=={spec['rayVersion']}\n" in (ROOT / "constraints.txt").read_text()
    head, (workers,) = spec["headGroupSpec"], spec["workerGroupSpecs"]
    assert workers["minReplicas"] <= workers["replicas"] <= workers["maxReplicas"]
    file = (PACKAGING / "Containerfile").read_text()
    for group in (head, workers):
        pod = group["template"]["spec"]
        (container,) = pod["containers"]
        user = container["securityContext"]["runAsUser"]
        assert f"USER {user}:{user}\n" in file
        assert {mount["name"] for mount in container["volumeMounts"]} == {
            volume["name"] for volume in pod["volumes"]
        }
        assert container["image"] == "streamtag-archive:latest"
        assert {"requests", "limits"} == set(container["resources"])
        assert {"livenessProbe", "readinessProbe"} <= set(container)  # KubeRay's own need wget
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"][
        "optional-dependencies"
    ]
    for page in (ROOT / "docs" / "archive.md", PACKAGING / "ray" / "archive.yaml"):
        (wanted,) = re.findall(r"EXTRAS=(\S+)", page.read_text())
        assert set(wanted.split(",")) <= set(extras)
    words = shlex.split(job["spec"]["entrypoint"])
    assert words[0] in re.findall(r'ENTRYPOINT \["(\w+)"\]', file)
    command: Any = typer.main.get_command(app)
    _, group, rest = command.resolve_command(
        command.make_context("streamtag", words[1:]), words[1:]
    )
    context = group.make_context("archive", rest)
    name, tag, rest = group.resolve_command(context, [*context._protected_args, *context.args])
    assert name == "tag"
    assert tag.make_context("tag", rest).params["address"] == "auto"


@pytest.mark.parametrize(
    ("name", "command", "ready"), [("fleet", "run", "readyz"), ("gateway", "gateway", "healthz")]
)
def test_what_is_for_kubernetes_is_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, command: str, ready: str
) -> None:
    """Selectors, probes, mounts, secrets and the configuration fit each other."""
    yaml = pytest.importorskip("yaml", reason="the extra docs is not installed")
    text = (PACKAGING / "kubernetes" / f"{name}.yaml").read_text()
    found = {one["kind"]: one for one in yaml.safe_load_all(text)}
    budget = {"PodDisruptionBudget"} if name == "fleet" else set()
    assert set(found) == {"ConfigMap", "Service", "StatefulSet", *budget}
    spec = found["StatefulSet"]["spec"]
    labels = spec["template"]["metadata"]["labels"]
    assert labels == spec["selector"]["matchLabels"] == found["Service"]["spec"]["selector"]
    assert all(labels == found[one]["spec"]["selector"]["matchLabels"] for one in budget)
    assert spec["serviceName"] == found["Service"]["metadata"]["name"]
    pod = spec["template"]["spec"]
    (container,) = pod["containers"]
    volumes = {
        one["name"]
        for one in (*pod["volumes"], *[claim["metadata"] for claim in spec["volumeClaimTemplates"]])
    }
    assert {one["name"] for one in container["volumeMounts"]} == volumes
    ports = {one["name"]: one["containerPort"] for one in container["ports"]}
    assert ports == {one["name"]: one["port"] for one in found["Service"]["spec"]["ports"]}
    for probe, path in (("startup", "healthz"), ("liveness", "healthz"), ("readiness", ready)):
        assert container[f"{probe}Probe"]["httpGet"] == {"path": f"/{path}", "port": "metrics"}
    for variable in container.get("env", ()):
        monkeypatch.setenv(variable["name"], "x" * 32)
    placed = tmp_path / "streamtag.toml"
    configuration = found["ConfigMap"]["data"]["streamtag.toml"]
    placed.write_text(configuration.replace(STATE, str(tmp_path)))
    config = checked_config(placed)
    assert (config.fleet is not None) == (name == "fleet")
    assert config.metrics.bind == f"0.0.0.0:{ports['metrics']}"
    assert container["args"] == [command, "/etc/streamtag/streamtag.toml"]
    if config.web:
        assert config.web.bind == f"0.0.0.0:{ports['web']}"
