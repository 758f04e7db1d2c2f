{{- define "operator.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" }}
{{- end }}

{{/* Name of what lives in the release's namespace. */}}
{{- define "operator.fullname" -}}
{{- if .Values.fullnameOverride }}
{{- .Values.fullnameOverride | trunc 63 | trimSuffix "-" }}
{{- else if contains (include "operator.name" .) .Release.Name }}
{{- .Release.Name | trunc 63 | trimSuffix "-" }}
{{- else }}
{{- printf "%s-%s" .Release.Name (include "operator.name" .) | trunc 63 | trimSuffix "-" }}
{{- end }}
{{- end }}

{{/* Name of what lives elsewhere: with the release's namespace, or two releases of one name would claim each other's. */}}
{{- define "operator.globalName" -}}
{{- printf "%s:%s" (include "operator.fullname" .) .Release.Namespace }}
{{- end }}

{{- define "operator.serviceAccountName" -}}
{{- if .Values.serviceAccount.create }}
{{- default (include "operator.fullname" .) .Values.serviceAccount.name }}
{{- else }}
{{- required "serviceAccount.name: name an existing service account, or leave serviceAccount.create on" .Values.serviceAccount.name }}
{{- end }}
{{- end }}

{{- define "operator.selectorLabels" -}}
app.kubernetes.io/name: {{ include "operator.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "operator.labels" -}}
{{ include "operator.selectorLabels" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-" }}
{{- end }}

{{- define "operator.image" -}}
{{- if .Values.image.digest }}
{{- printf "%s@%s" .Values.image.repository .Values.image.digest }}
{{- else }}
{{- printf "%s:%s" .Values.image.repository (default .Chart.AppVersion .Values.image.tag) }}
{{- end }}
{{- end }}

{{/*
Contradictions that a schema could refuse only in words nobody understands. With scope cluster a list of namespaces
would be given rights to everything instead.
*/}}
{{- define "operator.validate" -}}
{{- if and (eq .Values.scope "namespaces") (not .Values.watchNamespaces) }}
{{- fail "watchNamespaces: with scope=namespaces list the namespaces to serve" }}
{{- end }}
{{- if and (eq .Values.scope "cluster") .Values.watchNamespaces }}
{{- fail "watchNamespaces: is for scope=namespaces; set that, or leave the list empty to serve the whole cluster" }}
{{- end }}
{{- if and (not .Values.leaderElection.enabled) (gt (int .Values.replicas) 1) }}
{{- fail "replicas: more than one need leaderElection.enabled" }}
{{- end }}
{{- if and .Values.metrics.serviceMonitor.enabled (not .Values.metrics.service.enabled) }}
{{- fail "metrics.serviceMonitor: needs metrics.service.enabled" }}
{{- end }}
{{- if eq (int .Values.ports.metrics) (int .Values.ports.health) }}
{{- fail "ports: metrics and health must differ" }}
{{- end }}
{{- end }}

{{/*
Rights in each namespace that is served: read the specifications, write their statuses, delete what a TTL of its own
ends, put a finalizer on a policy that restores, tell what happened, and keep previews that are too large for a status in
ConfigMaps that belong to their action. A new kind is added here, and in a row of the README's table.
*/}}
{{- define "operator.rules.actions" -}}
- apiGroups: [ops.restate.dev]
  resources: [invocationactions]
  verbs: [get, list, watch, delete]
- apiGroups: [ops.restate.dev]
  resources: [retentionpolicies]
  verbs: [get, list, watch, patch]
- apiGroups: [ops.restate.dev]
  resources: [invocationactions/status, retentionpolicies/status]
  verbs: [patch]
- apiGroups: [""]
  resources: [events]
  verbs: [create]
- apiGroups: [""]
  resources: [configmaps]
  verbs: [get, create, delete]
{{- end }}

{{/* Rights in each namespace that may hold engines and their credentials, which are read by name and never listed. */}}
{{- define "operator.rules.engines" -}}
- apiGroups: [ops.restate.dev]
  resources: [restateengines]
  verbs: [get, list, watch]
- apiGroups: [ops.restate.dev]
  resources: [restateengines/status]
  verbs: [patch]
- apiGroups: [""]
  resources: [secrets]
  verbs: [get]
{{- end }}

{{- define "operator.subject" -}}
subjects:
- kind: ServiceAccount
  name: {{ include "operator.serviceAccountName" . }}
  namespace: {{ .Release.Namespace }}
{{- end }}

{{/* Options that the operator and the hook before its end have in common. */}}
{{- define "operator.env" -}}
{{- if eq .Values.scope "namespaces" }}
- name: INVOCATION_OPERATOR_NAMESPACES
  value: {{ .Values.watchNamespaces | uniq | toJson | quote }}
{{- end }}
- name: INVOCATION_OPERATOR_OPERATOR_NAMESPACE
  valueFrom:
    fieldRef:
      fieldPath: metadata.namespace
- name: INVOCATION_OPERATOR_LOG_FORMAT
  value: {{ .Values.logging.format | quote }}
- name: INVOCATION_OPERATOR_LOG_LEVEL
  value: {{ .Values.logging.level | quote }}
{{- if .Values.leaderElection.enabled }}
- name: INVOCATION_OPERATOR_LEADER_ELECT
  value: "true"
- name: INVOCATION_OPERATOR_LEASE_NAME
  value: {{ include "operator.fullname" . }}
- name: INVOCATION_OPERATOR_LEASE_SECONDS
  value: {{ .Values.leaderElection.leaseSeconds | quote }}
{{- end }}
{{- end }}

{{- define "operator.podSecurity" -}}
runAsNonRoot: true
runAsUser: 65532
runAsGroup: 65532
seccompProfile:
  type: RuntimeDefault
{{- end }}

{{- define "operator.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities:
  drop: [ALL]
{{- end }}
