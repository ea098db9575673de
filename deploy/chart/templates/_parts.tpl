{{- define "hopline.selector" -}}
app.kubernetes.io/component: {{ .component }}
app.kubernetes.io/name: hopline
{{- end }}

{{- define "hopline.labels" -}}
app.kubernetes.io/name: hopline
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end }}

{{- define "hopline.image" -}}
image: {{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}
{{- with .Values.image.pullPolicy }}
imagePullPolicy: {{ . }}
{{- end }}
{{- end }}

{{- define "hopline.capabilities" -}}
{{- if eq .Values.probes "packets" }}[BPF, NET_RAW, PERFMON]{{ else }}[BPF, NET_ADMIN, NET_RAW, PERFMON]{{ end }}
{{- end }}

{{- define "hopline.node" -}}
- name: NODE_NAME
  valueFrom:
    fieldRef:
      fieldPath: spec.nodeName
{{- end }}

{{- define "hopline.health" -}}
livenessProbe:
  httpGet:
    path: /healthz
    port: {{ . }}
  periodSeconds: 30
  timeoutSeconds: 5
readinessProbe:
  httpGet:
    path: /readyz
    port: {{ . }}
{{- end }}

{{- define "hopline.scratch" -}}
- name: cache
  emptyDir:
    sizeLimit: 256Mi
- name: tmp
  emptyDir:
    sizeLimit: 64Mi
{{- end }}

{{- define "hopline.scratchMounts" -}}
- name: cache
  mountPath: /cache
- name: tmp
  mountPath: /tmp
{{- end }}
