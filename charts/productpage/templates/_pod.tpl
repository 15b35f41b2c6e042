{{/*
A track's pod template: the pinned one as it stands, or else one made from the values. Takes root and track.
A pinned one gets the track's labels, because one track may be pinned to what the other one ran.
*/}}
{{- define "productpage.podTemplate" -}}
{{- $labels := include "productpage.trackLabels" . | fromYaml -}}
{{- $pinned := get ((.root.Values.release).pods | default dict) .track -}}
{{- if $pinned -}}
{{- mustMergeOverwrite (deepCopy $pinned) (dict "metadata" (dict "labels" $labels)) | toYaml -}}
{{- else -}}
{{- $deployment := get .root.Values (printf "%sDeployment" .track) -}}
{{- $pod := mustMergeOverwrite (deepCopy .root.Values.pod) (deepCopy $deployment.pod) -}}
{{- include "productpage.dropNulls" $pod -}}
{{- include "productpage.checkPod" $pod -}}
metadata:
  labels:
    {{- mustMergeOverwrite (deepCopy ($pod.labels | default dict)) $labels | toYaml | nindent 4 }}
  {{- with include "productpage.podAnnotations" $pod }}
  annotations:
    {{- . | nindent 4 }}
  {{- end }}
spec:
  {{- with $pod.terminationGracePeriodSeconds }}
  terminationGracePeriodSeconds: {{ int . }}
  {{- end }}
  {{- range $field := list "serviceAccountName" "imagePullSecrets" "priorityClassName" "securityContext" "nodeSelector" "tolerations" "affinity" "topologySpreadConstraints" "volumes" }}
  {{- with get $pod $field }}
  {{- dict $field . | toYaml | nindent 2 }}
  {{- end }}
  {{- end }}
  containers:
    - name: {{ .root.Chart.Name }}{{ include "productpage.suffix" .track }}
      image: {{ include "productpage.image" $deployment.image | quote }}
      imagePullPolicy: {{ $deployment.image.pullPolicy }}
      ports:
        - name: http
          containerPort: {{ int .root.Values.service.port }}
          protocol: TCP
      {{- with include "productpage.env" $pod.env }}
      env:
        {{- . | nindent 8 }}
      {{- end }}
      {{- with $pod.preStopSleepSeconds }}
      lifecycle:
        preStop:
          sleep:
            seconds: {{ int . }}
      {{- end }}
      {{- with $pod.containerSecurityContext }}
      securityContext:
        {{- toYaml . | nindent 8 }}
      {{- end }}
      {{- range $field := list "command" "args" "envFrom" "resources" "startupProbe" "readinessProbe" "livenessProbe" "volumeMounts" }}
      {{- with get $pod $field }}
      {{- dict $field . | toYaml | nindent 6 }}
      {{- end }}
      {{- end }}
{{- end -}}
{{- end -}}

{{/* The `env` list out of the map. Takes the map. */}}
{{- define "productpage.env" -}}
{{- $env := list -}}
{{- range $name, $value := . -}}
{{- if kindIs "map" $value -}}
{{- $env = append $env (merge (dict "name" $name) $value) -}}
{{- else -}}
{{- $env = append $env (dict "name" $name "value" (include "productpage.text" $value)) -}}
{{- end -}}
{{- end -}}
{{- with $env }}{{ toYaml . }}{{ end -}}
{{- end -}}

{{/* The pods' annotations: the sidecar's settings and the user's own, which win. Takes the merged `pod`. */}}
{{- define "productpage.podAnnotations" -}}
{{- $annotations := dict -}}
{{- with .istioProxyConfig -}}
{{- $drain := dict "terminationDrainDuration" (printf "%ds" (add 5 (int $.preStopSleepSeconds))) -}}
{{- $annotations = dict "proxy.istio.io/config" (merge (deepCopy .) $drain | toYaml) -}}
{{- end -}}
{{- with mustMergeOverwrite $annotations (.annotations | default dict) }}{{ toYaml . }}{{ end -}}
{{- end -}}

{{/* Takes nulls out of a map, in place: they say what to remove, and the API server would be asked to own them. */}}
{{- define "productpage.dropNulls" -}}
{{- $map := . -}}
{{- range $key, $value := $map -}}
{{- if kindIs "invalid" $value -}}
{{- $_ := unset $map $key -}}
{{- else if kindIs "map" $value -}}
{{- include "productpage.dropNulls" $value -}}
{{- end -}}
{{- end -}}
{{- end -}}
