"""deploy/kubernetes: valid for Kubernetes, of the restricted profile, in step with the image and the program."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import yaml

from aggregator.config.model import Config
from aggregator.serving import HARD_DEADLINE_AFTER_DRAIN
from tests.config.loading import KEY, load, problems_of

from .dockerfile import DEPLOY, ROOT, instructions

FOLDER = DEPLOY / "kubernetes"
EXAMPLES = sorted((FOLDER / "examples").glob("*.yaml"))
MANIFESTS = [*(FOLDER / name for name in ("deployment.yaml", "service.yaml", "volume-claim.yaml")), *EXAMPLES]
VERSIONS = ("1.29", "1.37")  # what docs/deploying.md says, and the newest that the schemas know
NEEDS_KUBECTL = "kubectl is not on this machine"


def read(path: Path) -> Any:
    """The one document of a manifest, as kubectl reads it (YAML 1.1: 0440 is octal)."""
    return yaml.safe_load(path.read_text())


def deployment() -> Any:
    return read(FOLDER / "deployment.yaml")["spec"]


def pod() -> Any:
    return deployment()["template"]["spec"]


def container() -> Any:
    (only,) = pod()["containers"]
    return only


def validate(version: str, *files: Path, text: str | None = None) -> tuple[int, list[str]]:
    """The code and the lines of kubernetes-validate that are more than a word of success."""
    command = [sys.executable, "-m", "kubernetes_validate", "-k", version, "--strict"]
    names = ["-"] if text is not None else [str(file) for file in files]
    done = subprocess.run([*command, *names], input=text, capture_output=True, text=True, check=False)
    return done.returncode, [line for line in done.stdout.splitlines() if not line.startswith("INFO")] + (
        done.stderr.splitlines()
    )


@pytest.mark.parametrize("version", VERSIONS)
def test_every_manifest_is_valid(version: str) -> None:
    """HTTPRoute is no part of Kubernetes itself: there is no schema for it here."""
    code, said = validate(version, *MANIFESTS)
    assert code == 0, said
    assert [re.sub(r".*(kind \S+).*", r"\1", line) for line in said] == ["kind HTTPRoute"]


def test_a_misspelt_field_would_be_noticed() -> None:
    text = (FOLDER / "deployment.yaml").read_text()
    code, said = validate(VERSIONS[-1], text=text.replace("runAsNonRoot", "runAsNonroot"))
    assert code == 1
    assert "runAsNonroot" in said[0]


def test_the_kustomization_names_every_manifest_of_the_folder() -> None:
    """Without kubectl this is all that stands between a forgotten file and a release."""
    kustomization = read(FOLDER / "kustomization.yaml")
    generated = [name for each in kustomization["configMapGenerator"] for name in each["files"]]
    listed = {*kustomization["resources"], *generated, "kustomization.yaml"}
    assert listed == {path.name for path in FOLDER.glob("*.yaml")}
    (image,) = kustomization["images"]
    assert image["name"] == container()["image"]
    assert f"VERSION={image['newTag']}" in instructions("ARG", stage=1)


def render(folder: Path) -> str:
    if shutil.which("kubectl") is None:
        pytest.skip(NEEDS_KUBECTL)
    done = subprocess.run(["kubectl", "kustomize", str(folder)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_what_kustomize_makes_is_valid_and_complete() -> None:
    """The ConfigMap gets a name of its own, and the pod takes that one."""
    text = render(FOLDER)
    code, said = validate(VERSIONS[-1], text=text)
    assert (code, said) == (0, [])
    made = {document["kind"]: document for document in yaml.safe_load_all(text)}
    assert set(made) == {"ConfigMap", "Deployment", "PersistentVolumeClaim", "Service"}
    spec = made["Deployment"]["spec"]["template"]["spec"]
    assert made["ConfigMap"]["metadata"]["name"] in [each.get("configMap", {}).get("name") for each in spec["volumes"]]
    assert spec["containers"][0]["image"] != "mcp-aggregator"


def test_the_overlay_of_the_documentation_works(tmp_path: Path) -> None:
    """A person's own kustomization.yaml, as docs/deploying.md prints it, with its config.yaml."""
    page = (ROOT / "docs" / "deploying.md").read_text()
    (overlay,) = re.findall(r"```yaml\n(# my-overlay/kustomization\.yaml\n.*?)```", page, re.DOTALL)
    shutil.copytree(FOLDER, tmp_path / "base")
    own = tmp_path / "own"
    own.mkdir()
    (own / "config.yaml").write_text("own: configuration\n")
    (base,) = [each for each in yaml.safe_load(overlay)["resources"] if each.endswith("deploy/kubernetes")]
    for example in EXAMPLES:
        shutil.copy(example, own)
    (own / "kustomization.yaml").write_text(overlay.replace(base, "../base"))

    made = list(yaml.safe_load_all(render(own)))
    (config,) = [each["data"]["config.yaml"] for each in made if each["kind"] == "ConfigMap"]
    assert config == "own: configuration\n"
    assert {each["metadata"]["namespace"] for each in made} == {yaml.safe_load(overlay)["namespace"]}
    assert {"HTTPRoute", "NetworkPolicy"} <= {each["kind"] for each in made}


def test_the_pod_meets_the_restricted_profile() -> None:
    """Pod Security Standards, "Restricted", control by control, as far as a pod without exceptions can be asked."""
    whole, own = pod()["securityContext"], container()["securityContext"]
    assert not {"hostNetwork", "hostPID", "hostIPC", "initContainers", "ephemeralContainers"} & pod().keys()
    assert "hostPort" not in container()["ports"][0]
    assert {kind for volume in pod()["volumes"] for kind in volume.keys() - {"name"}} <= {
        "configMap",
        "csi",
        "downwardAPI",
        "emptyDir",
        "ephemeral",
        "persistentVolumeClaim",
        "projected",
        "secret",
    }
    assert own["allowPrivilegeEscalation"] is False
    assert own["capabilities"] == {"drop": ["ALL"]}
    assert "privileged" not in own
    assert whole["runAsNonRoot"] is True
    assert whole["seccompProfile"] == {"type": "RuntimeDefault"}
    assert {"runAsUser", "seccompProfile", "procMount"} & own.keys() == set()


def test_the_pod_goes_beyond_it() -> None:
    """Nothing in it can be written but the volume, and it holds no key to the cluster."""
    assert container()["securityContext"]["readOnlyRootFilesystem"] is True
    assert [each["mountPath"] for each in container()["volumeMounts"] if not each.get("readOnly")] == ["/data"]
    assert pod()["automountServiceAccountToken"] is False
    assert set(container()["resources"]["limits"]) == {"memory"}


def test_the_volume_belongs_to_the_images_user_and_stays_closed() -> None:
    user, group = instructions("USER", stage=1)[0].split(":")
    security = pod()["securityContext"]
    assert (security["runAsUser"], security["runAsGroup"], security["fsGroup"]) == (int(user), int(group), int(group))
    assert security["fsGroupChangePolicy"] == "OnRootMismatch"


def test_two_pods_never_overlap_on_one_store() -> None:
    assert deployment()["replicas"] == 1
    assert deployment()["strategy"] == {"type": "Recreate"}


def test_probes_ask_what_the_program_answers() -> None:
    asked = {name: container()[name]["httpGet"] for name in ("startupProbe", "livenessProbe", "readinessProbe")}
    assert {name: each["path"] for name, each in asked.items()} == {
        "startupProbe": "/healthz",
        "livenessProbe": "/healthz",
        "readinessProbe": "/readyz",
    }
    (port,) = container()["ports"]
    assert {each["port"] for each in asked.values()} == {port["name"]}
    assert [str(port["containerPort"])] == instructions("EXPOSE", stage=1)


def test_the_grace_period_outlasts_the_drain() -> None:
    assert pod()["terminationGracePeriodSeconds"] == 45 > config().drain + HARD_DEADLINE_AFTER_DRAIN


def config() -> Config:
    """deploy/kubernetes/config.yaml, its secrets in texts instead of files."""
    text = (FOLDER / "config.yaml").read_text()
    loaded = load(re.sub(r"\{file: /run/secrets/mcp-aggregator/[a-z-]+\}", KEY, text))
    assert loaded.warnings == ()
    assert isinstance(loaded.config, Config)
    return loaded.config


def test_the_configuration_is_good_and_its_paths_are_mounted() -> None:
    mounts = {each["name"]: each["mountPath"] for each in container()["volumeMounts"]}
    assert config().storage.startswith(f"{mounts['data']}/")
    assert f"{mounts['config']}/config.yaml" in container()["args"]
    keys = set(read(FOLDER / "examples" / "secret.yaml")["stringData"])
    named = re.findall(r"\{file: (\S+)/([a-z-]+)\}", (FOLDER / "config.yaml").read_text())
    assert {folder for folder, _ in named} == {mounts["secret"]}
    assert {key for _, key in named} == keys


def test_the_secret_of_the_example_is_refused() -> None:
    """Whoever applies it unchanged gets no aggregator, instead of one that anybody can forge tokens for."""
    secret = read(FOLDER / "examples" / "secret.yaml")
    assert secret["metadata"]["name"] in [each.get("secret", {}).get("secretName") for each in pod()["volumes"]]
    text = (FOLDER / "config.yaml").read_text()
    refused = problems_of(re.sub(r"\{file: \S+\}", secret["stringData"]["secret"], text))
    assert [problem.path for problem in refused] == ["secret"]


def test_service_and_routes_lead_to_the_pod() -> None:
    """One host everywhere: the gate compares it with `issuerUrl`."""
    service = read(FOLDER / "service.yaml")
    (port,) = service["spec"]["ports"]
    labels = deployment()["template"]["metadata"]["labels"]
    assert service["spec"]["selector"].items() <= labels.items()
    assert port["targetPort"] == container()["ports"][0]["name"]

    host = urlsplit(config().issuer_url).netloc
    route = read(FOLDER / "examples" / "http-route.yaml")["spec"]
    assert route["hostnames"] == [host]
    assert route["rules"][0]["backendRefs"] == [{"name": service["metadata"]["name"], "port": port["port"]}]
    (rule,) = read(FOLDER / "examples" / "ingress.yaml")["spec"]["rules"]
    assert rule["host"] == host
    backend = rule["http"]["paths"][0]["backend"]["service"]
    assert backend == {"name": service["metadata"]["name"], "port": {"name": port["name"]}}
    policy = read(FOLDER / "examples" / "network-policy.yaml")["spec"]
    assert policy["podSelector"]["matchLabels"].items() <= labels.items()
