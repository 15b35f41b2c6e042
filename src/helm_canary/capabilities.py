"""What an AKS cluster with Istio serves: given to `helm template` where no cluster is asked. Data.

Helm itself then knows the versions of Kubernetes, but none of their kinds and nothing of Istio, so a chart that asks
`.Capabilities.APIVersions.Has "networking.istio.io/v1"` would leave out what a release needs.
"""

from __future__ import annotations

from collections.abc import Mapping

_NETWORKING = ("DestinationRule", "Gateway", "ServiceEntry", "Sidecar", "VirtualService", "WorkloadEntry")

SERVED: Mapping[str, tuple[str, ...]] = {
    "networking.istio.io/v1": (*_NETWORKING, "WorkloadGroup"),
    "networking.istio.io/v1beta1": (*_NETWORKING, "ProxyConfig", "WorkloadGroup"),
    "networking.istio.io/v1alpha3": (*_NETWORKING, "EnvoyFilter", "WorkloadGroup"),
    "security.istio.io/v1": ("AuthorizationPolicy", "PeerAuthentication", "RequestAuthentication"),
    "security.istio.io/v1beta1": ("AuthorizationPolicy", "PeerAuthentication", "RequestAuthentication"),
    "telemetry.istio.io/v1": ("Telemetry",),
    "telemetry.istio.io/v1alpha1": ("Telemetry",),
    "extensions.istio.io/v1alpha1": ("WasmPlugin",),
    "v1": (
        "ConfigMap", "Event", "LimitRange", "Namespace", "Node", "PersistentVolume", "PersistentVolumeClaim", "Pod",
        "ResourceQuota", "Secret", "Service", "ServiceAccount",
    ),
    "apps/v1": ("ControllerRevision", "DaemonSet", "Deployment", "ReplicaSet", "StatefulSet"),
    "autoscaling/v1": ("HorizontalPodAutoscaler",),
    "autoscaling/v2": ("HorizontalPodAutoscaler",),
    "batch/v1": ("CronJob", "Job"),
    "policy/v1": ("PodDisruptionBudget",),
    "networking.k8s.io/v1": ("Ingress", "IngressClass", "NetworkPolicy"),
    "rbac.authorization.k8s.io/v1": ("ClusterRole", "ClusterRoleBinding", "Role", "RoleBinding"),
    "coordination.k8s.io/v1": ("Lease",),
    "discovery.k8s.io/v1": ("EndpointSlice",),
    "scheduling.k8s.io/v1": ("PriorityClass",),
    "storage.k8s.io/v1": ("StorageClass",),
    "apiextensions.k8s.io/v1": ("CustomResourceDefinition",),
    "admissionregistration.k8s.io/v1": (
        "MutatingWebhookConfiguration", "ValidatingAdmissionPolicy", "ValidatingWebhookConfiguration",
    ),
    "metrics.k8s.io/v1beta1": ("NodeMetrics", "PodMetrics"),
}  # fmt: skip


def api_versions() -> tuple[str, ...]:
    """As `.Capabilities.APIVersions` has them: each version, and each kind of it."""
    return tuple(
        word for version, kinds in SERVED.items() for word in (version, *(f"{version}/{kind}" for kind in kinds))
    )
