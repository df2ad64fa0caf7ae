{{- /* Both ends of the streams for slots show a certificate. Each component has a Secret with ca.crt, tls.crt and tls.key. The operator
makes them, or somebody else does: never the chart, whose renderings would all differ. */}}

{{- /* Not empty when the operator makes the certificates. */}}
{{- define "maniple.slots.made" -}}
{{- $given := .Values.front.tls }}
{{- if and $given.frontSecret (not $given.scalerSecret) }}
{{- fail "front.tls.scalerSecret is empty: set it beside front.tls.frontSecret, or set neither and let the operator make both" }}
{{- end }}
{{- if and $given.scalerSecret (not $given.frontSecret) }}
{{- fail "front.tls.frontSecret is empty: set it beside front.tls.scalerSecret, or set neither and let the operator make both" }}
{{- end }}
{{- if and .Values.front.enabled (not $given.frontSecret) -}}
true
{{- end }}
{{- end }}

{{- /* Name of the Secret of the CA, which only the operator reads. */}}
{{- define "maniple.slots.authority" -}}
{{- printf "%s-slots-authority" (include "maniple.fullname" .) }}
{{- end }}

{{- /* Name of that Secret. Takes (list $ "component"). */}}
{{- define "maniple.slots.secret" -}}
{{- $root := index . 0 }}
{{- $given := index $root.Values.front.tls (printf "%sSecret" (index . 1)) }}
{{- default (printf "%s-%s-slots" (include "maniple.fullname" $root) (index . 1)) $given }}
{{- end }}

{{- define "maniple.slots.mounts" -}}
{{- if .Values.front.enabled -}}
- name: tls
  mountPath: /tls
  readOnly: true
{{- end }}
{{- end }}

{{- /* Takes (list $ "component"). */}}
{{- define "maniple.slots.volumes" -}}
{{- if (index . 0).Values.front.enabled -}}
- name: tls
  secret:
    secretName: {{ include "maniple.slots.secret" . }}
{{- end }}
{{- end }}
