{{- /* Names leave room for the longest suffix, "-operator-metrics", within the 63 characters of a Service. */}}
{{- define "maniple.fullname" -}}
{{- default .Release.Name .Values.fullnameOverride | trunc 46 | trimSuffix "-" }}
{{- end }}

{{- /* Components that run, separated by spaces. */}}
{{- define "maniple.components" -}}
operator scaler{{ if .Values.front.enabled }} front{{ end }}
{{- end }}

{{- define "maniple.image" -}}
{{- $image := .Values.image }}
{{- $repository := required "image.repository is empty: build the image with the project's Dockerfile, push it to a registry of yours and set image.repository to it" $image.repository }}
{{- if $image.digest }}{{ $repository }}@{{ $image.digest }}{{ else }}{{ $repository }}:{{ default .Chart.AppVersion $image.tag }}{{ end }}
{{- end }}

{{- /* Labels that select the pods of a component; they never change for the life of a Deployment. Takes (list $ "component"). */}}
{{- define "maniple.selector" -}}
{{- $root := index . 0 -}}
app.kubernetes.io/name: {{ $root.Chart.Name }}
app.kubernetes.io/instance: {{ $root.Release.Name }}
app.kubernetes.io/component: {{ index . 1 }}
{{- end }}

{{- /* Takes (list $ "component"); the component may be empty. */}}
{{- define "maniple.labels" -}}
{{- $root := index . 0 -}}
app.kubernetes.io/name: {{ $root.Chart.Name }}
app.kubernetes.io/instance: {{ $root.Release.Name }}
{{- with index . 1 }}
app.kubernetes.io/component: {{ . }}
{{- end }}
app.kubernetes.io/part-of: maniple
app.kubernetes.io/managed-by: {{ $root.Release.Service }}
app.kubernetes.io/version: {{ $root.Chart.AppVersion | quote }}
helm.sh/chart: {{ printf "%s-%s" $root.Chart.Name $root.Chart.Version | replace "+" "_" }}
{{- with $root.Values.additionalLabels }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{- /* Metadata of an object. Takes (dict "root" $ "name" name "component" component "namespace" namespace "annotations" extra "labels" extra). */}}
{{- define "maniple.metadata" -}}
name: {{ .name }}
{{- with .namespace }}
namespace: {{ . }}
{{- end }}
labels:
  {{- include "maniple.labels" (list .root .component) | nindent 2 }}
  {{- with .labels }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- with merge (dict) (default dict .annotations) .root.Values.additionalAnnotations }}
annotations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{- /* Takes (list $ "component"). */}}
{{- define "maniple.serviceAccountName" -}}
{{- $root := index . 0 }}
{{- $component := index . 1 }}
{{- $account := (index $root.Values $component).serviceAccount }}
{{- if $account.create }}
{{- default (printf "%s-%s" (include "maniple.fullname" $root) $component) $account.name }}
{{- else }}
{{- required (printf "%s.serviceAccount.name is empty: name an existing ServiceAccount, or set %s.serviceAccount.create" $component $component) $account.name }}
{{- end }}
{{- end }}
