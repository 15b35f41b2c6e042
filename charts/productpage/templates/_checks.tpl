{{/*
What a schema cannot say. Each message: what is wrong, what it would mean, what to do.
*/}}

{{/* Takes the root. */}}
{{- define "productpage.checkRouting" -}}
{{- $production := int .Values.productionDeployment.weight -}}
{{- $canary := int .Values.canaryDeployment.weight -}}
{{- if ne 100 (add $production $canary | int) -}}
{{- fail (printf "The weights sum to %d: productionDeployment.weight is %d and canaryDeployment.weight is %d. Istio would treat them as shares, so neither would be the percentage it looks like. Set both in the same command, so that they sum to 100." (add $production $canary) $production $canary) -}}
{{- end -}}
{{- if and .Values.gateway.mesh (has "*" .Values.gateway.hosts) -}}
{{- fail "gateway.hosts contains \"*\" while gateway.mesh is true. Istio refuses such a VirtualService: it would take every request of every caller in the mesh. Name the hosts, or set gateway.mesh=false if only the gateways are to follow the weights." -}}
{{- end -}}
{{- if not (or .Values.gateway.enabled .Values.gateway.names .Values.gateway.mesh) -}}
{{- fail "gateway.enabled and gateway.mesh are false and gateway.names is empty. The weights would hold for nobody, and Istio would read the empty list as the mesh. Set gateway.enabled=true, gateway.mesh=true, or name a Gateway in gateway.names." -}}
{{- end -}}
{{- end -}}

{{/* Takes the merged `pod` of a track. */}}
{{- define "productpage.checkPod" -}}
{{- $sleep := int .preStopSleepSeconds -}}
{{- $grace := .terminationGracePeriodSeconds | default 30 | int -}}
{{- if ge $sleep $grace -}}
{{- fail (printf "pod.preStopSleepSeconds is %d and pod.terminationGracePeriodSeconds is %d. The pod would be killed during its sleep, with the requests it still has. Make the grace period longer than the sleep by the time a request may take." $sleep $grace) -}}
{{- end -}}
{{- with (.istioProxyConfig | default dict).terminationDrainDuration -}}
{{- if lt (trimSuffix "s" . | float64) (float64 $sleep) -}}
{{- fail (printf "pod.istioProxyConfig.terminationDrainDuration is %s and pod.preStopSleepSeconds is %d. The sidecar would be gone while the container still serves, and its requests would fail. Make it at least %ds, or leave it out: it then follows the sleep." . $sleep $sleep) -}}
{{- end -}}
{{- end -}}
{{- end -}}
