{{- /*
What people need which verb for. The verbs are virtual: the API server serves no such requests, but roles grant them on
`invocationactions` like any other, and the policies of admission-policies.yaml ask for them.

To add a kind: an entry in "operator.verbs.kinds". What holds an InvocationAction's specification (a template, the
`then` of a rule) asks for the same verbs by "operator.verbs.ofAction".
*/ -}}

{{/*
What a specification of an InvocationAction can cause: plan.operations.caused_operations, in CEL. The argument is the
expression that is the specification. For each verb the cases that need it: `of` is the field that people are told.
*/}}
{{- define "operator.verbs.ofAction" -}}
{{- range $action := list "Cancel" "Kill" "Pause" "Resume" "Purge" "PurgeJournal" "RestartAsNew" }}
{{ lower $action }}:
- of: {{ printf "action: %s" $action | quote }}
  when: {{ printf "%s.action == '%s'" $ $action | quote }}
{{- if eq $action "Kill" }}
- of: escalation
  when: {{ printf "has(%s.escalation)" $ | quote }}
{{- else if eq $action "Resume" }}
- of: expedite
  when: {{ printf "has(%[1]s.expedite) && %[1]s.expedite" $ | quote }}
{{- else if eq $action "Pause" }}
# What backs off is paused on its way to another deployment.
- of: resume.deployment with statuses BackingOff
  when: >-
    {{ $ }}.action == 'Resume' && has({{ $ }}.resume) && has({{ $ }}.resume.deployment) && {{ $ }}.resume.deployment != 'Keep' &&
    (has({{ $ }}.target.statuses) ? 'BackingOff' in {{ $ }}.target.statuses : has({{ $ }}.target.anyOf) &&
    {{ $ }}.target.anyOf.exists(branch, has(branch.statuses) && 'BackingOff' in branch.statuses))
{{- end }}
{{- end }}
{{- end }}

{{/*
The kinds whose authors are asked. For each:
- `harmless`: fields of the specification that can cause nothing when they change,
- `idle`: an expression that tells a specification which causes nothing as it is,
- `anew`: an expression that tells an update by which its author becomes the one who asked for what happens,
- `verbs`: which verb is needed when (`after` says after which change; default: of the specification),
- `approval`: whether a plan of it can be approved,
- `status`: the verb without which nobody but the operator may change its status.
*/}}
{{- define "operator.verbs.kinds" -}}
invocationactions:
  kind: InvocationAction
  harmless: [approvedPlan, ttlSecondsAfterFinished, ttlSecondsAfterFailed]
  idle: has(object.spec.mode) && object.spec.mode == 'DryRun'
  # Who turns a preview into a run is its author, or it would be another one's run; and who approves it must be a third.
  anew: >-
    object.spec.?runId.orValue('') != oldObject.spec.?runId.orValue('') ||
    (object.spec.?mode.orValue('Execute') != oldObject.spec.?mode.orValue('Execute') && object.spec.?mode.orValue('Execute') != 'DryRun')
  approval: true
  status: approve
  verbs:
    {{- include "operator.verbs.ofAction" "object.spec" | nindent 4 }}
retentionpolicies:
  kind: RetentionPolicy
  harmless: []
  idle: "false"
  anew: variables.changed || variables.requested
  approval: false
  status: setretention
  verbs:
    {{- range $action := list "Purge" "PurgeJournal" }}
    {{ lower $action }}:
    - of: {{ printf "sweeps with action: %s" $action | quote }}
      # The annotation ops.restate.dev/requestedAt sweeps now.
      after: (variables.asked || variables.requested)
      when: {{ printf "has(object.spec.sweeps) && object.spec.sweeps.exists(sweep, sweep.action == '%s')" $action | quote }}
    - of: applyToExisting
      when: has(object.spec.applyToExisting) && object.spec.applyToExisting
    {{- end }}
    setretention:
    - of: retention and timeouts
      when: "(has(object.spec.retention) || has(object.spec.timeouts)) && !(has(object.spec.drift) && object.spec.drift == 'Report')"
{{- end }}

{{/*
Whether a specification was changed other than by what can only do less: CEL, for the kind that is the argument.
An unknown field is no harmless one, and a suspension may be set by everybody.
*/}}
{{- define "operator.verbs.changed" -}}
{{- $harmless := append .harmless "suspend" | toJson -}}
request.operation == 'CREATE' ||
(oldObject.spec.?suspend.orValue(false) && !object.spec.?suspend.orValue(false)) ||
dyn(object.spec).exists(field, !(field in {{ $harmless }}) && !(field in dyn(oldObject.spec) && dyn(oldObject.spec)[field] == dyn(object.spec)[field])) ||
dyn(oldObject.spec).exists(field, !(field in {{ $harmless }}) && !(field in dyn(object.spec)))
{{- end }}

{{/* Variables that the mutating and the validating policy of a kind share. */}}
{{- define "operator.verbs.variables" -}}
- name: changed
  expression: {{ include "operator.verbs.changed" . | replace "\n" " " | quote }}
- name: requested
  expression: >-
    object.metadata.?annotations[?'ops.restate.dev/requestedAt'].orValue('') != '' && (request.operation == 'CREATE' ||
    object.metadata.?annotations[?'ops.restate.dev/requestedAt'] != oldObject.metadata.?annotations[?'ops.restate.dev/requestedAt'])
- name: anew
  expression: {{ printf "request.operation == 'CREATE' || (%s)" .anew | quote }}
{{- range $name, $annotation := dict "requester" "requested-by" "approver" "approved-by" }}
- name: {{ $name }}
  expression: {{ printf "object.metadata.?annotations[?'ops.restate.dev/%s'].orValue('')" $annotation | quote }}
- name: {{ $name }}Before
  expression: {{ printf "request.operation == 'CREATE' ? '' : oldObject.metadata.?annotations[?'ops.restate.dev/%s'].orValue('')" $annotation | quote }}
{{- end }}
{{- if .approval }}
- name: approved
  expression: has(object.spec.approvedPlan)
- name: approvedAnew
  expression: >-
    has(object.spec.approvedPlan) && (request.operation == 'CREATE' || oldObject.spec.?approvedPlan.orValue('') != object.spec.approvedPlan)
{{- end }}
{{- end }}

{{/* The name of a policy, which belongs to no namespace. Unlike the names of roles it has no colon. */}}
{{- define "operator.policyName" -}}
{{- printf "%s.%s" (include "operator.fullname" .) .Release.Namespace }}
{{- end }}

{{/* Nobody asks the operator: it writes statuses and finalizers, and what it creates carries the author of its parent. */}}
{{- define "operator.policies.notTheOperator" -}}
- name: not-the-operator
  expression: {{ printf "request.userInfo.username != 'system:serviceaccount:%s:%s'" .Release.Namespace (include "operator.serviceAccountName" .) | quote }}
{{- end }}

{{/* Policies hold in the namespaces that this release serves; another release has its own. */}}
{{- define "operator.policies.where" -}}
{{- if eq .Values.scope "namespaces" }}
matchResources:
  namespaceSelector:
    matchExpressions:
    - key: kubernetes.io/metadata.name
      operator: In
      values: {{ .Values.watchNamespaces | uniq | toJson }}
{{- end }}
{{- end }}

{{/* "true" where the cluster can stamp: it serves MutatingAdmissionPolicy v1, or is of a version that does. */}}
{{- define "operator.policies.stamp" -}}
{{- $wanted := .Values.admissionPolicies.stampAuthors }}
{{- if eq $wanted "Auto" }}
{{- or (.Capabilities.APIVersions.Has "admissionregistration.k8s.io/v1/MutatingAdmissionPolicy") (semverCompare ">=1.36-0" .Capabilities.KubeVersion.Version) }}
{{- else }}
{{- eq $wanted "Always" }}
{{- end }}
{{- end }}
