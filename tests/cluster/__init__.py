"""A real Kubernetes, Istio and Envoy on one Linux machine, for the end-to-end tests and for `make demo`.

Without Docker, a registry of images or a cloud: the programs are compiled or unpacked (`binaries`), and run as
ordinary processes inside one network namespace (`network`), so that nothing of it can be reached from outside and
nothing outside can be hit by mistake. Pods are real ones, run by containerd and runc from images made of a few
files (`images`). Each module says beside its code what had to be known to make that work.

What is as in production: the API server with RBAC, controllers, scheduler, kubelet with its probes, preStop and grace
times, kube-proxy; istiod that pushes to Envoy with Istio's delays; two gateway pods that learn of a change one
after the other; the commands that every Istio gateway answers:

    kubectl exec POD -n istio-system -c istio-proxy -- pilot-agent request GET 'clusters?format=json'

There, pilot-agent prints a line or two of its own first: read from the first line that begins with "{". Per pod behind
the gateway it gives rq_total, rq_success, rq_error, rq_active and cx_connect_fail, under cluster names like
outbound|9080|canary|HOST; a pod's counters go when it leaves. A request that found no pod at all is in none of them:
it shows in the gateway's log, and to the client.

What is missing: sidecars and mTLS, and istio_requests_total (a stock Envoy has none of Istio's own filters); a cluster
DNS (Envoy routes by endpoints and needs none); a second node; and a registry, so that every image has to be handed in
by `Cluster.image` before a pod asks for it.
"""

from .cluster import Cluster, attach, down, status, up
from .shell import ClusterError
from .traffic import Move, Request, Traffic, table

__all__ = ["Cluster", "ClusterError", "Move", "Request", "Traffic", "attach", "down", "status", "table", "up"]
