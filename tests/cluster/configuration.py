"""The files that the cluster's programs read."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from .places import API_SERVER, BRIDGE_ADDRESS, NETNS, SOCKET, VOLATILE, Places

if TYPE_CHECKING:
    from pathlib import Path

PAUSE_IMAGE = "localhost/helm-canary-pause:1"
MESH = """\
enableAutoMtls: false
enableTracing: false
accessLogFile: /dev/stdout
rootNamespace: istio-system
"""


def files(places: Places, cni: Path, snapshotter: str) -> dict[str, str]:
    return {
        "tokens.csv": 'admin-token,admin,1,"system:masters"\nviewer-token,viewer,2,"viewers"\n',
        "kubeconfig": _kubeconfig(),
        "containerd.toml": _containerd(places, cni, snapshotter),
        "cni/10-helm-canary.conflist": _cni(),
        "kubelet.yaml": _kubelet(places),
        "mesh.yaml": MESH,
    }


def _kubeconfig() -> str:
    users = ("admin", "viewer")
    return json.dumps(
        {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": NETNS, "cluster": {"server": API_SERVER, "insecure-skip-tls-verify": True}}],
            "users": [{"name": user, "user": {"token": f"{user}-token"}} for user in users],
            "contexts": [{"name": user, "context": {"cluster": NETNS, "user": user}} for user in users],
            "current-context": "admin",
        },
        indent=1,
    )


def _containerd(places: Places, cni: Path, snapshotter: str) -> str:
    # restrict_oom_score_adj: without CAP_SYS_RESOURCE, as in many containers, runc cannot lower the score of a sandbox
    # and dies with "can't get final child's PID".
    return f"""\
version = 2
root = "{places.run}/containerd"
state = "{VOLATILE}"
[grpc]
  address = "{SOCKET}"
[plugins."io.containerd.internal.v1.opt"]
  path = "{places.run}/containerd/opt"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{PAUSE_IMAGE}"
  disable_apparmor = true
  restrict_oom_score_adj = true
  [plugins."io.containerd.grpc.v1.cri".containerd]
    snapshotter = "{snapshotter}"
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "{cni}"
    conf_dir = "{places.run}/cni"
"""


def _cni() -> str:
    # The addresses above .200 stay free for the load balancer's.
    addresses = {"subnet": "10.244.0.0/24", "rangeStart": "10.244.0.10", "rangeEnd": "10.244.0.200"}
    ipam = {"type": "host-local", "dataDir": f"{VOLATILE}/ipam", "ranges": [[addresses]]}
    bridge = {"type": "bridge", "bridge": "cni0", "isGateway": True, "hairpinMode": True, "ipam": ipam}
    return json.dumps({"cniVersion": "0.4.0", "name": NETNS, "plugins": [bridge]})


def _kubelet(places: Places) -> str:
    # failCgroupV1: since 1.35 a kubelet refuses the old control groups by default. cgroupDriver: containerd 1.6 cannot
    # tell a new kubelet which one it uses. The image thresholds switch off the collection of images: no registry could
    # give them back. Eviction looks at memory only: what else is on the machine's disk is not the cluster's matter.
    return f"""\
apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
containerRuntimeEndpoint: unix://{SOCKET}
cgroupDriver: cgroupfs
failCgroupV1: false
cgroupsPerQOS: false
enforceNodeAllocatable: []
localStorageCapacityIsolation: false
makeIPTablesUtilChains: false
imageGCHighThresholdPercent: 100
imageGCLowThresholdPercent: 99
evictionHard: {{memory.available: 50Mi}}
authentication: {{anonymous: {{enabled: true}}, webhook: {{enabled: false}}}}
authorization: {{mode: AlwaysAllow}}
address: {BRIDGE_ADDRESS}
healthzBindAddress: 127.0.0.1
resolvConf: ""
failSwapOn: false
nodeStatusUpdateFrequency: 5s
podLogsDir: {places.run}/pod-logs
volumePluginDir: {places.run}/volume-plugins
"""


def gateway(image: str, replicas: int) -> str:
    """Two gateway pods by default: a release must be safe while they learn of a new weight one after the other."""
    return GATEWAY.replace("IMAGE", image).replace("REPLICAS", str(replicas))


# A gateway that is scaled down must lose nothing itself, or it would be blamed on the release under test: new
# connections stop during the preStop's sleep, kept ones are closed after an answer during the drain.
GATEWAY = """\
apiVersion: v1
kind: Service
metadata: {name: istio-ingressgateway, namespace: istio-system, labels: {istio: ingressgateway}}
spec:
  type: LoadBalancer
  selector: {istio: ingressgateway}
  ports: [{name: status, port: 15021}, {name: http, port: 80}]
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: istio-ingressgateway, namespace: istio-system, labels: {istio: ingressgateway}}
spec:
  replicas: REPLICAS
  selector: {matchLabels: {istio: ingressgateway}}
  template:
    metadata:
      labels: {istio: ingressgateway, app: istio-ingressgateway}
      annotations: {prometheus.io/scrape: "true", prometheus.io/port: "15020", prometheus.io/path: /stats/prometheus}
    spec:
      dnsPolicy: Default
      terminationGracePeriodSeconds: 30
      containers:
      - name: istio-proxy
        image: IMAGE
        imagePullPolicy: Never
        args: [proxy, router, --domain, $(POD_NAMESPACE).svc.cluster.local, --proxyLogLevel=warning,
               --log_output_level=default:warn, --templateFile=/var/lib/istio/envoy/envoy_bootstrap_tmpl.json]
        readinessProbe: {httpGet: {path: /healthz/ready, port: 15021}, periodSeconds: 1}
        lifecycle: {preStop: {sleep: {seconds: 3}}}
        env:
        - {name: PILOT_CERT_PROVIDER, value: none}
        - {name: FILE_MOUNTED_CERTS, value: "true"}
        - {name: POD_NAME, valueFrom: {fieldRef: {fieldPath: metadata.name}}}
        - {name: POD_NAMESPACE, valueFrom: {fieldRef: {fieldPath: metadata.namespace}}}
        - {name: INSTANCE_IP, valueFrom: {fieldRef: {fieldPath: status.podIP}}}
        - {name: HOST_IP, valueFrom: {fieldRef: {fieldPath: status.hostIP}}}
        - {name: SERVICE_ACCOUNT, value: default}
        - {name: ISTIO_META_CLUSTER_ID, value: Kubernetes}
        - name: PROXY_CONFIG
          value: '{"discoveryAddress":"10.244.0.1:15010","controlPlaneAuthPolicy":"NONE","concurrency":2,
                   "drainDuration":"5s","terminationDrainDuration":"5s"}'
"""
