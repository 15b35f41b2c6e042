{{/* The `app` label. */}}
{{- define "productpage.name" -}}
{{- .Values.nameOverride | default .Chart.Name | trunc 63 | trimSuffix "-" -}}
{{- end -}}

{{/* What the Deployments' names begin with: the release's name, and the chart's unless the release is called after it. */}}
{{- define "productpage.fullname" -}}
{{- $name := .Values.nameOverride | default .Chart.Name -}}
{{- $full := contains $name .Release.Name | ternary .Release.Name (printf "%s-%s" .Release.Name $name) -}}
{{- .Values.fullnameOverride | default $full | trunc 63 | trimSuffix "-" -}}
{{- end -}}

{{/* What a track adds to names: production's are those that a chart without canary would have. */}}
{{- define "productpage.suffix" -}}
{{- eq . "canary" | ternary "canary" "" -}}
{{- end -}}

{{/* What the Istio objects' names begin with: the Service's, so that two services of a namespace do not collide. */}}
{{- define "productpage.istioName" -}}
{{- .Values.service.name | trimSuffix "-svc" -}}
{{- end -}}

{{/* The Service's full name: short names mean the namespace of whoever reads them, which for a gateway is another one. */}}
{{- define "productpage.host" -}}
{{- printf "%s.%s.svc.cluster.local" .Values.service.name .Release.Namespace -}}
{{- end -}}

{{/* Labels of every object. No chart version: it would change objects that must stay as they are during a release. */}}
{{- define "productpage.labels" -}}
app: {{ include "productpage.name" . | quote }}
release: {{ .Release.Name | quote }}
heritage: {{ .Release.Service | quote }}
{{- end -}}

{{/* Labels of a track's pods, and its selector. They are immutable in a Deployment. Takes root and track. */}}
{{- define "productpage.trackLabels" -}}
app: {{ include "productpage.name" .root | quote }}
canary: {{ eq .track "canary" | quote }}
release: {{ .root.Release.Name | quote }}
{{- end -}}

{{/* A string, number or boolean as text. Numbers of a values file are floats, which print as 1.7012345678e+10. */}}
{{- define "productpage.text" -}}
{{- kindIs "string" . | ternary . (toJson .) -}}
{{- end -}}

{{/* An image reference. */}}
{{- define "productpage.image" -}}
{{- printf "%s:%s" .repository (include "productpage.text" .tag) -}}
{{- end -}}

{{/* Hosts as a list. One that a wildcard covers is left out, because Istio refuses a VirtualService with both. */}}
{{- define "productpage.hosts" -}}
{{- $all := prepend .Values.gateway.hosts (include "productpage.host" .) | uniq -}}
{{- range $host := $all -}}
{{- $covered := false -}}
{{- range $other := without $all $host -}}
{{- $covered = or $covered (and (hasPrefix "*" $other) (hasSuffix (trimPrefix "*" $other) $host)) -}}
{{- end -}}
{{- if not $covered }}
- {{ quote $host }}
{{- end -}}
{{- end -}}
{{- end -}}
