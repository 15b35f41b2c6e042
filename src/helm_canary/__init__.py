"""Release a microservice on AKS, Istio and Helm in approved stages, without losing a request."""

__version__ = "0.1.0"
