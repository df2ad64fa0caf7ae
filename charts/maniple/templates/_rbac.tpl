{{- /* Rights on apps: a ClusterRole with its binding, or a Role in the watched namespace. Takes (dict "root" $ "component" name "rules" yaml). */}}
{{- define "maniple.appRights" -}}
{{- $root := .root }}
{{- $namespace := $root.Values.watchNamespace }}
{{- $kind := ternary "Role" "ClusterRole" (ne $namespace "") }}
{{- $name := printf "%s-%s" (include "maniple.fullname" $root) .component }}
{{- if and $namespace (eq $namespace $root.Release.Namespace) }}{{ $name = printf "%s-apps" $name }}{{ end }}
apiVersion: rbac.authorization.k8s.io/v1
kind: {{ $kind }}
metadata:
  {{- include "maniple.metadata" (dict "root" $root "name" $name "component" .component "namespace" $namespace) | nindent 2 }}
rules:
  {{- .rules | nindent 2 }}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: {{ $kind }}Binding
metadata:
  {{- include "maniple.metadata" (dict "root" $root "name" $name "component" .component "namespace" $namespace) | nindent 2 }}
roleRef:
  apiGroup: rbac.authorization.k8s.io
  kind: {{ $kind }}
  name: {{ $name }}
subjects:
  - kind: ServiceAccount
    name: {{ include "maniple.serviceAccountName" (list $root .component) }}
    namespace: {{ $root.Release.Namespace }}
{{- end }}

{{- /* Rights in the release's own namespace: the Lease of leader election, and further rules. Creating cannot be limited to a name.
Takes (dict "root" $ "component" name "rules" yaml). */}}
{{- define "maniple.ownRights" -}}
{{- $root := .root }}
{{- $name := printf "%s-%s" (include "maniple.fullname" $root) .component }}
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata:
  {{- include "maniple.metadata" (dict "root" $root "name" $name "component" .component "namespace" $root.Release.Namespace) | nindent 2 }}
rules:
  - apiGroups: [coordination.k8s.io]
    resources: [leases]
    verbs: [create]
  - apiGroups: [coordination.k8s.io]
    resources: [leases]
    resourceNames: [{{ $name }}]
    verbs: [get, update]
  {{- with .rules }}
  {{- . | nindent 2 }}
  {{- end }}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata:
  {{- include "maniple.metadata" (dict "root" $root "name" $name "component" .component "namespace" $root.Release.Namespace) | nindent 2 }}
roleRef:
  apiGroup: rbac.authorization.k8s.io
  kind: Role
  name: {{ $name }}
subjects:
  - kind: ServiceAccount
    name: {{ include "maniple.serviceAccountName" (list $root .component) }}
    namespace: {{ $root.Release.Namespace }}
{{- end }}
